use super::*;
use crate::failure::report;

fn kubeconfig(user: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
         contexts: [{{name: one, context: {{cluster: c, user: u, namespace: shop}}}}]\n\
         users: [{{name: u, user: {user}}}]\n"
    );
    std::fs::write(file.path(), text).unwrap();
    file
}

fn access(file: &tempfile::NamedTempFile) -> Access {
    Access { kubeconfig: Some(file.path().to_owned()), ..Access::default() }
}

#[tokio::test]
async fn the_context_gives_the_namespace_and_the_flag_overrides_it() {
    let file = kubeconfig("{token: abc}");
    let loaded = load(&access(&file)).await.unwrap();
    assert_eq!((loaded.context.as_str(), loaded.namespace.as_str()), ("one", "shop"));
    let loaded = load(&Access { namespace: Some("other".to_owned()), ..access(&file) }).await.unwrap();
    assert_eq!(loaded.namespace, "other");
}

#[tokio::test]
async fn a_kubeconfig_that_runs_a_program_is_refused_until_allowed() {
    for user in [
        "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /tmp/evil}}",
        "{auth-provider: {name: gcp, config: {cmd-path: /tmp/evil}}}",
    ] {
        let file = kubeconfig(user);
        let error = load(&access(&file)).await.unwrap_err();
        assert_eq!(
            report(&error).lines,
            [
                "error: user \"u\" of the kubeconfig wants to run the program \"/tmp/evil\" to get credentials",
                "help: if you trust this kubeconfig, add --allow-exec-plugin",
            ]
        );
    }
}

#[tokio::test]
async fn a_context_that_does_not_exist_lists_those_that_do() {
    let file = kubeconfig("{token: abc}");
    let error = load(&Access { context: Some("two".to_owned()), ..access(&file) }).await.unwrap_err();
    assert_eq!(report(&error).lines, ["error: context \"two\" does not exist", "help: the kubeconfig has: one"]);
}

#[test]
fn the_flag_wins_over_the_variable_and_missing_files_of_the_variable_are_skipped() {
    let present = kubeconfig("{}");
    let list = std::env::join_paths([Path::new("/does/not/exist"), present.path()]).unwrap();
    assert_eq!(candidates(Some(Path::new("/x")), Some(&list), None), [PathBuf::from("/x")]);
    assert_eq!(candidates(None, Some(&list), None), [present.path().to_owned()]);
    let only_missing = std::ffi::OsString::from("/does/not/exist");
    assert_eq!(candidates(None, Some(&only_missing), None), [PathBuf::from("/does/not/exist")]);
}
