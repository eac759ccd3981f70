//! Privileges of a container, from the allow-list of securityContext.

use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};

use super::{BuildInput, ConfigError};
use crate::engine::Security;

/// Kernel settings that are name-spaced and harmless (Kubernetes' safe set).
const SAFE_SYSCTLS: [&str; 8] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
];

/// Returns the user to run as and the privileges.
pub(super) fn build(input: &BuildInput<'_>) -> Result<(Option<String>, Security), ConfigError> {
    let pod = input.spec.security_context.clone().unwrap_or_default();
    let own = input.container.security_context.clone().unwrap_or_default();
    let user = user(input, &pod, &own)?;
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let names = |list: Option<Vec<String>>| {
        let plain = |name: String| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name);
        list.unwrap_or_default().into_iter().map(plain).collect()
    };
    let mut groups: Vec<String> = pod.supplemental_groups.iter().flatten().map(ToString::to_string).collect();
    groups.extend(pod.fs_group.map(|group| group.to_string()));
    let security = Security {
        privileged,
        cap_add: names(capabilities.add),
        cap_drop: names(capabilities.drop),
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp_unconfined: seccomp_unconfined(&pod, &own)?,
        groups,
        sysctls: sysctls(input, &pod)?,
    };
    if own.proc_mount.as_deref().is_some_and(|mount| mount != "Default") {
        return Err(ConfigError::new("securityContext.procMount: only Default is supported"));
    }
    Ok((user, security))
}

fn user(
    input: &BuildInput<'_>,
    pod: &PodSecurityContext,
    own: &SecurityContext,
) -> Result<Option<String>, ConfigError> {
    let user = own.run_as_user.or(pod.run_as_user);
    let group = own.run_as_group.or(pod.run_as_group);
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        check_non_root(input, user)?;
    }
    Ok(match (user, group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => {
            let of_image = input.image_user.as_deref().unwrap_or_default();
            let name = of_image.split(':').next().filter(|name| !name.is_empty()).unwrap_or("0");
            Some(format!("{name}:{group}"))
        }
        (None, None) => None,
    })
}

fn check_non_root(input: &BuildInput<'_>, user: Option<i64>) -> Result<(), ConfigError> {
    let of_image = input.image_user.as_deref().unwrap_or_default();
    let name = of_image.split(':').next().unwrap_or_default();
    match (user, name) {
        (Some(0), _) => Err(ConfigError::new("container's runAsUser breaks non-root policy")),
        (Some(_), _) => Ok(()),
        (None, "" | "0" | "root") => Err(ConfigError::new("container has runAsNonRoot and image will run as root")),
        (None, name) if name.parse::<u32>().is_ok() => Ok(()),
        (None, name) => Err(ConfigError::new(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        ))),
    }
}

fn seccomp_unconfined(pod: &PodSecurityContext, own: &SecurityContext) -> Result<bool, ConfigError> {
    let profile = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
    match profile.map(|profile| profile.type_.as_str()) {
        None | Some("RuntimeDefault") => Ok(false),
        Some("Unconfined") => Ok(true),
        Some(other) => Err(ConfigError::new(format!("securityContext.seccompProfile: type {other} is not supported"))),
    }
}

fn sysctls(
    input: &BuildInput<'_>,
    pod: &PodSecurityContext,
) -> Result<std::collections::BTreeMap<String, String>, ConfigError> {
    let mut map = std::collections::BTreeMap::new();
    for sysctl in pod.sysctls.iter().flatten() {
        if !SAFE_SYSCTLS.contains(&sysctl.name.as_str()) {
            return Err(ConfigError::new(format!("forbidden sysctl: {:?} not allowlisted", sysctl.name)));
        }
        if sysctl.name.starts_with("net.") && input.spec.host_network == Some(true) {
            return Err(ConfigError::new(format!("sysctl {:?} is not allowed with hostNetwork", sysctl.name)));
        }
        map.insert(sysctl.name.clone(), sysctl.value.clone());
    }
    Ok(map)
}
