//! Registry credentials in pull secrets. They go to the exact registry they name, never to one that looks like it
//! (faults A49).

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::ByteString;
use serde::Deserialize;

use crate::engine::{RegistryAuth, normalise, registry_of};

/// One entry of a Docker configuration: the registry, maybe with a path, and what to show it.
pub(super) type Entries = Vec<(String, RegistryAuth)>;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: Option<String>,
}

/// Reads `.dockerconfigjson` or the older `.dockercfg`; what cannot be read holds no credentials.
pub(super) fn parse_docker_config(data: &BTreeMap<String, ByteString>) -> Entries {
    let auths = if let Some(bytes) = data.get(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(&bytes.0).map(|config| config.auths).unwrap_or_default()
    } else if let Some(bytes) = data.get(".dockercfg") {
        serde_json::from_slice(&bytes.0).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    auths.into_iter().map(|(server, auth)| (server.clone(), registry_auth(server, auth))).collect()
}

fn registry_auth(server: String, auth: DockerAuth) -> RegistryAuth {
    let (mut username, mut password) = (auth.username, auth.password);
    if username.is_empty()
        && let Ok(decoded) = BASE64_STANDARD.decode(auth.auth)
        && let Some((name, secret)) = String::from_utf8_lossy(&decoded).split_once(':')
    {
        (username, password) = (name.to_owned(), secret.to_owned());
    }
    RegistryAuth { username, password, server, identity_token: auth.identitytoken }
}

/// The credentials that fit an image, the most specific first.
pub(super) fn credentials_for(image: &str, entries: &Entries) -> Vec<RegistryAuth> {
    let full = normalise(image);
    let registry = registry_of(image);
    let mut fitting: Vec<(usize, RegistryAuth)> = Vec::new();
    for (server, auth) in entries {
        let (host, path) = host_and_path(server);
        let prefix = format!("{registry}/{path}");
        let path_fits =
            path.is_empty() || full == prefix || full.starts_with(&format!("{}/", prefix.trim_end_matches('/')));
        let looks_like_it = registry.starts_with(&host) && drover_api::mutants::active("A49-registry-by-prefix");
        if (host == registry || looks_like_it) && path_fits {
            fitting.push((path.len(), auth.clone()));
        }
    }
    fitting.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    fitting.into_iter().map(|(_, auth)| auth).collect()
}

/// Splits `https://index.docker.io/v1/` and the like; the Hub has many names for one registry.
fn host_and_path(server: &str) -> (String, String) {
    let plain = server.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = plain.split_once('/').unwrap_or((plain, ""));
    let path = path.trim_end_matches('/');
    match (host, path) {
        ("index.docker.io" | "registry-1.docker.io" | "docker.io", "" | "v1" | "v2") => {
            ("docker.io".to_owned(), String::new())
        }
        (host, "v1" | "v2") => (host.to_owned(), String::new()),
        (host, path) => (host.to_owned(), path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(image: &str, config: &serde_json::Value) -> Vec<String> {
        let bytes = ByteString(serde_json::to_vec(config).expect("json"));
        let entries = parse_docker_config(&[(".dockerconfigjson".to_owned(), bytes)].into());
        credentials_for(image, &entries)
            .into_iter()
            .map(|auth| format!("{}:{}", auth.username, auth.password))
            .collect()
    }

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        let config = serde_json::json!({"auths": {
            "registry.io": {"auth": "YTpi"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
            "registry.io/team": {"username": "team", "password": "q"},
        }});
        assert_eq!(servers("registry.io/x:1", &config), ["a:b"]);
        assert_eq!(servers("registry.io/team/x", &config), ["team:q", "a:b"]);
        assert_eq!(servers("registry.io/teamster/x", &config), ["a:b"]);
        assert_eq!(servers("web", &config), ["hub:p"]);
        for stranger in ["registry.io.evil.com/x", "registry.io:5000/x", "evil.com/registry.io/x"] {
            assert_eq!(servers(stranger, &config), Vec::<String>::new(), "{stranger}");
        }
    }
}
