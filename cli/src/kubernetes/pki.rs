//! Certificates of the local control plane: one authority per stack, valid long enough to forget about.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::stack::write_private;

const VALID: Duration = Duration::days(3650);

/// Makes the authority, the server's certificate and the key of service accounts, unless they are there.
pub fn ensure(dir: &Path) -> anyhow::Result<()> {
    if dir.join("ca.crt").is_file() {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let ca_key = KeyPair::generate().context("generate the authority's key")?;
    let mut ca = params("dagwright-local-ca", None)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let ca_cert = ca.self_signed(&ca_key).context("sign the authority's certificate")?;
    let issuer = Issuer::new(ca, ca_key);

    let mut server = params("kube-apiserver", None)?;
    server.subject_alt_names = vec![
        rcgen::SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        rcgen::SanType::DnsName("localhost".try_into().context("name the server")?),
        rcgen::SanType::DnsName("kubernetes.default.svc".try_into().context("name the server")?),
    ];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(dir, "apiserver", &server, &issuer)?;
    for (name, group) in [("admin", Some("system:masters")), (super::CONTROLLER_USER, None)] {
        let mut user = params(name, group)?;
        user.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        issue(dir, name, &user, &issuer)?;
    }
    let accounts = KeyPair::generate().context("generate the key of service accounts")?;
    write_private(&dir.join("service-accounts.key"), accounts.serialize_pem().as_bytes())?;
    write_private(&dir.join("service-accounts.pub"), accounts.public_key_pem().as_bytes())?;
    // Last: its presence says that everything else is complete.
    write_private(&dir.join("ca.crt"), ca_cert.pem().as_bytes())
}

fn params(name: &str, group: Option<&str>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("describe a certificate")?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    // Clocks of virtual machines jump.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + VALID;
    Ok(params)
}

fn issue(
    dir: &Path,
    name: &str,
    params: &CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> anyhow::Result<()> {
    let key = KeyPair::generate().with_context(|| format!("generate the key of {name}"))?;
    let cert = params.signed_by(&key, issuer).with_context(|| format!("sign the certificate of {name}"))?;
    write_private(&dir.join(format!("{name}.key")), key.serialize_pem().as_bytes())?;
    write_private(&dir.join(format!("{name}.crt")), cert.pem().as_bytes())
}

/// A kubeconfig of one user. JSON, which every reader of YAML takes.
pub fn write_kubeconfig(dir: &Path, user: &str, server: &str, to: &Path) -> anyhow::Result<()> {
    let read = |file: String| -> anyhow::Result<String> {
        let path: PathBuf = dir.join(file);
        Ok(BASE64_STANDARD.encode(fs::read(&path).with_context(|| format!("read {}", path.display()))?))
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "dagwright", "cluster": {
            "server": server,
            "certificate-authority-data": read("ca.crt".to_owned())?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": read(format!("{user}.crt"))?,
            "client-key-data": read(format!("{user}.key"))?,
        }}],
        "contexts": [{"name": "dagwright", "context": {"cluster": "dagwright", "user": user}}],
        "current-context": "dagwright",
    });
    write_private(to, &serde_json::to_vec_pretty(&config).context("serialise the kubeconfig")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_private_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        let before = fs::read(dir.path().join("ca.crt")).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
        ensure(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("ca.crt")).unwrap(), before);
    }

    #[test]
    fn kubectl_and_kube_read_the_same_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        let file = dir.path().join("admin.kubeconfig");
        write_kubeconfig(dir.path(), "admin", "https://127.0.0.1:1", &file).unwrap();
        let config = kube::config::Kubeconfig::read_from(&file).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("dagwright"));
        assert_eq!(config.auth_infos.len(), 1);
    }
}
