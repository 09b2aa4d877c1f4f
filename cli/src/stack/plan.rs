//! Command lines and environments of everything that a stack runs. Pure: nothing is started here.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process::{Layer, Spec};
use super::settings::{REGION, Settings};
use super::status::Probe;
use crate::awslocal::{Bootstrapped, CredentialsEndpoint};

/// The name under which the ECS endpoint finds itself on the engine.
pub(crate) const SELF_NAME: &str = "dagwright-local";
pub(crate) const ECS_CLUSTER: &str = "dagwright";
pub(crate) const LOG_GROUP: &str = "/dagwright/workers";

/// Handed on from the shell that ran `dagwright up`, so that logs and traces can be turned up.
const HANDED_ON: [&str; 4] =
    ["DAGWRIGHT_LOG", "DAGWRIGHT_LOG_FORMAT", "OTEL_EXPORTER_OTLP_ENDPOINT", "RUST_BACKTRACE"];

fn spec(settings: &Settings, name: &str, program: &Path, layer: Layer) -> Spec {
    let address = settings.address(name).to_string();
    Spec {
        name: name.to_owned(),
        program: program.to_owned(),
        args: vec![],
        env: vec![],
        user: None,
        probe: Probe::Tcp(address.clone()),
        address,
        stop: Signal::SIGTERM,
        grace: Duration::from_secs(10),
        layer,
    }
}

fn words<const N: usize>(words: [String; N]) -> Vec<String> {
    words.into()
}

pub(crate) fn etcd(settings: &Settings) -> Spec {
    let (client, peer) = (settings.url("etcd"), settings.url("etcd-peer"));
    Spec {
        args: words([
            format!("--data-dir={}", settings.dir.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // A new port at a later start changes the peer's URL, which a cluster of one need not agree about.
            "--force-new-cluster".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]),
        probe: Probe::Http(format!("{client}/health")),
        ..spec(settings, "etcd", &settings.parts.control_plane.etcd, Layer::Store)
    }
}

pub(crate) fn apiserver(settings: &Settings) -> Spec {
    let pki = settings.dir.join("kubernetes");
    let file = |name: &str| pki.join(name).display().to_string();
    let address = settings.address("kube-apiserver");
    Spec {
        args: words([
            format!("--etcd-servers={}", settings.url("etcd")),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", address.port()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--cert-dir={}", pki.display()),
            "--external-hostname=127.0.0.1".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            "--authorization-mode=RBAC".to_owned(),
            // No pods run here, so none needs a token.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            // Otherwise stopping waits a minute for the watches of whoever is connected.
            "--shutdown-delay-duration=0s".to_owned(),
        ]),
        probe: Probe::Kubernetes(settings.kubeconfig()),
        address: format!("https://{address}"),
        grace: Duration::from_secs(5),
        ..spec(settings, "kube-apiserver", &settings.parts.control_plane.apiserver, Layer::Server)
    }
}

pub(crate) fn controller_manager(settings: &Settings) -> Option<Spec> {
    let program = settings.parts.control_plane.controller_manager.as_ref()?;
    let pki = settings.dir.join("kubernetes");
    Some(Spec {
        args: words([
            format!("--kubeconfig={}", settings.kubeconfig().display()),
            format!("--service-account-private-key-file={}", pki.join("service-accounts.key").display()),
            format!("--root-ca-file={}", pki.join("ca.crt").display()),
            format!("--cert-dir={}", pki.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", settings.address("kube-controller-manager").port()),
            // What a cluster without pods needs: deleting namespaces and owned objects, default accounts.
            "--controllers=namespace-controller,garbage-collector-controller,serviceaccount-controller"
                .to_owned(),
        ]),
        ..spec(settings, "kube-controller-manager", program, Layer::Cloud)
    })
}

pub(crate) fn postgres(settings: &Settings, data: &Path, user: Option<(u32, u32)>) -> Spec {
    Spec {
        args: super::postgres::arguments(data, settings.address("postgres").port()),
        env: vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())],
        user,
        // SIGINT is Postgres's fast shutdown: it ends sessions instead of waiting for them.
        stop: Signal::SIGINT,
        ..spec(settings, "postgres", &settings.parts.postgres_bin.join("postgres"), Layer::Store)
    }
}

pub(crate) fn ministack(settings: &Settings, launcher: &Path, socket: &Path) -> Spec {
    let folder = settings.dir.join("aws");
    let url = settings.url("ministack");
    let path = |name: &str| folder.join(name).display().to_string();
    let env = [
        ("HOME", folder.display().to_string()),
        ("TMPDIR", path("tmp")),
        ("HOSTNAME", SELF_NAME.to_owned()),
        ("DOCKER_HOST", format!("unix://{}", socket.display())),
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("GATEWAY_PORT", settings.address("ministack").port().to_string()),
        ("MINISTACK_HOST", "127.0.0.1".to_owned()),
        // Both would listen on every interface.
        ("IOT_MTLS_ENABLED", "0".to_owned()),
        ("SFTP_ENABLED", "0".to_owned()),
        ("AUTH", "true".to_owned()),
        ("AWS_ENDPOINT_URL", url.clone()),
        ("PERSIST_STATE", "1".to_owned()),
        ("STATE_DIR", path("state")),
        ("S3_PERSIST", "1".to_owned()),
        ("S3_DATA_DIR", path("s3")),
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    Spec {
        args: vec![launcher.display().to_string()],
        env: env.map(|(name, value)| (name.to_owned(), value)).into(),
        probe: Probe::Http(format!("{url}/_ministack/ready")),
        ..spec(settings, "ministack", &settings.parts.ministack_python, Layer::Cloud)
    }
}

/// `PROGRAM LISTEN CONTROL UPSTREAM`, as the fault proxy of the tests takes it.
pub(crate) fn aws_proxy(settings: &Settings) -> Option<Spec> {
    let program = settings.aws_proxy.as_ref()?;
    Some(Spec {
        args: words([
            settings.address("aws-proxy").to_string(),
            settings.address("aws-proxy-control").to_string(),
            settings.url("ministack"),
        ]),
        stop: Signal::SIGINT,
        ..spec(settings, "aws-proxy", program, Layer::Cloud)
    })
}

pub(crate) fn anvil(settings: &Settings) -> Spec {
    let port = settings.address("anvil").port();
    Spec {
        args: crate::load::anvil_args(port, Some(&settings.dir.join("anvil.json"))),
        ..spec(settings, "anvil", &settings.parts.anvil, Layer::Server)
    }
}

pub(crate) fn replay(settings: &Settings) -> Option<Spec> {
    let folder = settings.replay.as_ref()?;
    let listen = settings.address("mainnet-replay").to_string();
    Some(Spec {
        args: words([
            "evm".to_owned(),
            "serve".to_owned(),
            folder.display().to_string(),
            "--listen".to_owned(),
            listen,
        ]),
        ..spec(settings, "mainnet-replay", &settings.program, Layer::Server)
    })
}

/// What our own processes share.
struct Products<'a> {
    settings: &'a Settings,
    binaries: &'a Path,
    aws: &'a Bootstrapped,
    credentials: &'a CredentialsEndpoint,
}

/// Our own processes: the RPC gateway and the query service once, controller and dispatcher twice.
pub(crate) fn products(
    settings: &Settings,
    aws: &Bootstrapped,
    credentials: &CredentialsEndpoint,
) -> Vec<Spec> {
    let Some(binaries) = &settings.binaries else { return vec![] };
    let products = Products { settings, binaries, aws, credentials };
    let dispatchers = (0..2).map(|replica| products.dispatcher(replica));
    let controllers = (0..2).map(|replica| products.controller(replica));
    dispatchers.chain([products.rpc(), products.query()]).chain(controllers).collect()
}

impl Products<'_> {
    fn spec(&self, name: &str, role: &str, binary: &str, own: Vec<(&str, String)>) -> Spec {
        let settings = self.settings;
        let admin = settings.address(&format!("{name}-admin"));
        let listens = settings.kept.ports.contains_key(name);
        let mut env = vec![
            ("DAGWRIGHT_ADMIN_LISTEN".to_owned(), admin.to_string()),
            ("AWS_ENDPOINT_URL".to_owned(), settings.aws_url()),
            ("AWS_REGION".to_owned(), REGION.to_owned()),
        ];
        if listens {
            env.push(("DAGWRIGHT_LISTEN".to_owned(), settings.address(name).to_string()));
        }
        env.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        env.extend(self.credentials.env_for(&self.role(role)));
        let handed_on =
            HANDED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        env.extend(handed_on);
        env.extend(settings.variables.clone());
        Spec {
            env,
            address: if listens { settings.address(name) } else { admin }.to_string(),
            probe: Probe::Http(format!("http://{admin}/readyz")),
            grace: Duration::from_secs(15),
            ..spec(settings, name, &self.binaries.join(binary), Layer::Product)
        }
    }

    fn role(&self, name: &str) -> String {
        self.aws.role_arns.get(name).cloned().unwrap_or_default()
    }

    fn controller(&self, replica: u8) -> Spec {
        let settings = self.settings;
        let own = vec![
            ("KUBECONFIG", settings.controller_kubeconfig().display().to_string()),
            ("DAGWRIGHT_POD_NAME", format!("controller-{replica}")),
            ("DAGWRIGHT_STATE_DATABASE_URL", settings.database_url("dagwright_controller", "state")),
            ("DAGWRIGHT_ECS_CLUSTER", self.aws.cluster.clone()),
            ("DAGWRIGHT_DEFAULT_SUBNETS", self.aws.subnets.join(",")),
            ("DAGWRIGHT_DEFAULT_SECURITY_GROUPS", self.aws.security_groups.join(",")),
            ("DAGWRIGHT_DEFAULT_TASK_ROLE_ARN", self.role("worker-task")),
            ("DAGWRIGHT_DEFAULT_EXECUTION_ROLE_ARN", self.role("worker-execution")),
            ("DAGWRIGHT_DISPATCHER_URL", settings.dispatcher_urls()),
            ("DAGWRIGHT_RPC_URL", settings.url("rpc")),
            ("DAGWRIGHT_WORKER_LOG_GROUP", LOG_GROUP.to_owned()),
        ];
        self.spec(&format!("controller-{replica}"), "controller", "dagwright-controller", own)
    }

    fn dispatcher(&self, replica: u8) -> Spec {
        let settings = self.settings;
        let own = vec![
            ("DAGWRIGHT_STATE_DATABASE_URL", settings.database_url("dagwright_dispatcher", "state")),
            ("DAGWRIGHT_DATA_BUCKET", self.aws.bucket.clone()),
            ("DAGWRIGHT_DATA_ROLE_ARN", self.role("data")),
            ("DAGWRIGHT_RPC_URL", settings.url("rpc")),
            ("DAGWRIGHT_GATEWAY_TOKEN", settings.kept.gateway_token.clone()),
            ("DAGWRIGHT_ECS_CLUSTER", self.aws.cluster.clone()),
        ];
        self.spec(&format!("dispatcher-{replica}"), "dispatcher", "dagwright-dispatcher", own)
    }

    fn rpc(&self) -> Spec {
        let own = vec![
            ("DAGWRIGHT_DISPATCHER_URL", self.settings.dispatcher_urls()),
            ("DAGWRIGHT_GATEWAY_TOKEN", self.settings.kept.gateway_token.clone()),
        ];
        self.spec("rpc", "rpc", "dagwright-rpc", own)
    }

    fn query(&self) -> Spec {
        let settings = self.settings;
        let own = vec![
            ("DAGWRIGHT_STATE_DATABASE_URL", settings.database_url("dagwright_query", "state")),
            ("DAGWRIGHT_DATA_BUCKET", self.aws.bucket.clone()),
            ("DAGWRIGHT_JWKS_FILE", settings.dir.join("jwks.json").display().to_string()),
            ("DAGWRIGHT_OIDC_ISSUER", super::settings::ISSUER.to_owned()),
            ("DAGWRIGHT_OIDC_AUDIENCE", super::settings::AUDIENCE.to_owned()),
            ("DAGWRIGHT_DUCKDB_EXTENSION_DIR", settings.parts.duckdb_extensions.display().to_string()),
        ];
        self.spec("query", "query", "dagwright-query", own)
    }
}
