//! Says why a container could not be started, where the engine looks for it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Writes to standard error and, as runc does, one JSON line to the log file that containerd reads the reason from.
pub(crate) fn failure(log: Option<&Path>, message: &str) {
    eprintln!("drover-runc: {message}");
    let Some(path) = log else { return };
    let line = format!("{{\"level\":\"error\",\"msg\":\"drover-runc: {}\"}}\n", escape(message));
    let written =
        OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("drover-runc: cannot write {}: {error}", path.display());
    }
}

/// The text as the inside of a JSON string.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            control if control < ' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(control))),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_one_valid_json_line() {
        assert_eq!(escape("say \"no\"\n\\"), "say \\\"no\\\"\\u000a\\\\");
    }

    #[test]
    fn appends_to_the_log_that_containerd_reads() {
        let path = std::env::temp_dir().join(format!("drover-runc-log-{}", std::process::id()));
        failure(Some(&path), "first");
        failure(Some(&path), "second");
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let expected = "{\"level\":\"error\",\"msg\":\"drover-runc: first\"}\n{\"level\":\"error\",\"msg\":\"drover-runc: second\"}\n";
        assert_eq!(written, expected);
    }
}
