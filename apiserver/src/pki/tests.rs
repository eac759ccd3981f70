//! Files on disk: made once, kept, renewed, refused.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{identity::Facts, *};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn names(addresses: &[&str]) -> ServerNames {
    ServerNames::new(addresses.iter().map(|address| address.parse().unwrap()), Some("host-1"))
}

fn facts(dir: &Path, file: &str) -> Facts {
    let pem = fs::read(dir.join(file)).unwrap();
    Facts::read(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap()
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_second_open_changes_no_file() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("pki");
    Pki::open(&dir, &names(&["10.0.0.1"]), now()).unwrap();
    let before = contents(&dir);
    assert_eq!(before.len(), 7, "ca, server, admin as crt and key, and the token key");
    Pki::open(&dir, &names(&["10.0.0.1"]), now() + Duration::from_secs(3600)).unwrap();
    assert_eq!(contents(&dir), before);
}

#[test]
fn the_server_certificate_names_everything_clients_dial() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("pki");
    Pki::open(&dir, &names(&["10.96.0.1", "0.0.0.0"]), now()).unwrap();
    let facts = facts(&dir, "server.crt");
    for name in ["localhost", "host-1", "kubernetes", "kubernetes.default.svc.cluster.local"] {
        assert!(facts.dns_names.iter().any(|own| own == name), "{name}");
    }
    let addresses: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.1", "127.0.0.1", "::1"]);
}

#[test]
fn a_missing_name_or_a_late_life_re_issues_the_server_certificate_only() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("pki");
    let pki = Pki::open(&dir, &names(&[]), now()).unwrap();
    let first = facts(&dir, "server.crt");
    pki.renew_server(&names(&["192.0.2.7"]), now()).unwrap();
    let second = facts(&dir, "server.crt");
    assert_ne!(first.public_key, second.public_key);
    let ca = fs::read(dir.join("ca.crt")).unwrap();
    pki.renew_server(&names(&["192.0.2.7"]), now() + LEAF_LIFE * 3 / 4).unwrap();
    assert_ne!(facts(&dir, "server.crt").public_key, second.public_key);
    assert_eq!(fs::read(dir.join("ca.crt")).unwrap(), ca);
}

#[test]
fn secrets_are_private_and_wider_modes_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("pki");
    Pki::open(&dir, &names(&[]), now()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for key in ["ca.key", "server.key", "admin.key", "service-account.key"] {
        assert_eq!(mode(&dir.join(key)), 0o600, "{key}");
    }
    fs::set_permissions(dir.join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let error = Pki::open(&dir, &names(&[]), now()).unwrap_err();
    assert!(matches!(error, Error::Mode { mode: 0o640, .. }), "{error}");
    fs::set_permissions(dir.join("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Pki::open(&dir, &names(&[]), now()), Err(Error::Mode { mode: 0o755, .. })));
}

#[test]
fn a_certificate_of_another_authority_is_refused_or_replaced() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    Pki::open(&one, &names(&[]), now()).unwrap();
    Pki::open(&two, &names(&[]), now()).unwrap();
    for file in ["admin.crt", "admin.key"] {
        fs::copy(two.join(file), one.join(file)).unwrap();
    }
    Pki::open(&one, &names(&[]), now()).unwrap();
    assert_ne!(fs::read(one.join("admin.crt")).unwrap(), fs::read(two.join("admin.crt")).unwrap());
    fs::copy(two.join("ca.crt"), one.join("ca.crt")).unwrap();
    assert!(matches!(Pki::open(&one, &names(&[]), now()), Err(Error::Damaged { .. })));
}

#[test]
fn a_crash_between_key_and_certificate_is_repaired() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("pki");
    Pki::open(&dir, &names(&[]), now()).unwrap();
    fs::remove_file(dir.join("ca.crt")).unwrap();
    fs::remove_file(dir.join("server.crt")).unwrap();
    fs::write(dir.join("ca.new"), "half written").unwrap();
    Pki::open(&dir, &names(&[]), now()).unwrap();
    assert_eq!(facts(&dir, "ca.crt").common_name, "drover-ca");
}

#[test]
fn node_certificates_name_the_node() {
    let root = tempfile::tempdir().unwrap();
    let pki = Pki::open(&root.path().join("pki"), &names(&[]), now()).unwrap();
    let identity = pki.issue_node_certificate("n1", now()).unwrap();
    let facts = Facts::read(&CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()).unwrap();
    assert_eq!((facts.common_name.as_str(), facts.organizations), ("system:node:n1", vec!["system:nodes".to_owned()]));
}

#[test]
fn the_kubeconfig_is_private_and_names_the_cluster() {
    let root = tempfile::tempdir().unwrap();
    let pki = Pki::open(&root.path().join("pki"), &names(&[]), now()).unwrap();
    let path = root.path().join("admin.kubeconfig");
    pki.write_admin_kubeconfig(&path, "drover", "https://127.0.0.1:6443").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(config["current-context"], "drover");
    assert_eq!(config["contexts"][0]["context"]["user"], "drover-admin");
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
