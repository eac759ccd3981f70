//! The flags.

use anyhow::{Context, Result, bail, ensure};
use drover_tests::Store;

/// What to measure; [`Options::default`] is what `make bench-hollow` runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Replicas of the Deployment.
    pub(crate) replicas: usize,
    /// Hollow nodes.
    pub(crate) nodes: usize,
    /// How often everything is measured, after one round that does not count.
    pub(crate) repeat: usize,
    /// The stores.
    pub(crate) stores: Vec<Store>,
    /// Whether pods mount a service account token, as they do unless they say otherwise.
    pub(crate) tokens: bool,
    /// Whether a Service selects the pods, so that every node's proxy must know each before it is Ready.
    pub(crate) service: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 1000,
            nodes: 100,
            repeat: 5,
            stores: vec![Store::Embedded, Store::Etcd],
            tokens: true,
            service: false,
        }
    }
}

impl Options {
    /// Reads `--flag value` pairs, `--no-tokens` and `--service`.
    ///
    /// # Errors
    /// On an unknown flag or a value that makes no sense.
    pub(crate) fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--no-tokens" => options.tokens = false,
                "--service" => options.service = true,
                _ => {
                    let value = args.next().with_context(|| format!("{flag} needs a value"))?;
                    options.set(&flag, &value).with_context(|| format!("{flag} {value}"))?;
                }
            }
        }
        let counts = [options.replicas, options.nodes, options.repeat];
        ensure!(counts.iter().all(|count| *count > 0), "every count must be at least 1");
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<()> {
        match flag {
            "--replicas" => self.replicas = value.parse()?,
            "--nodes" => self.nodes = value.parse()?,
            "--repeat" => self.repeat = value.parse()?,
            "--store" => {
                self.stores = match value {
                    "embedded" => vec![Store::Embedded],
                    "etcd" => vec![Store::Etcd],
                    "both" => vec![Store::Embedded, Store::Etcd],
                    _ => bail!("must be embedded, etcd or both"),
                }
            }
            _ => bail!("unknown flag"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::from_args(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_replace_defaults_one_by_one() {
        let options = parse("--replicas 20 --no-tokens --store etcd").expect("these flags are right");
        assert_eq!((options.replicas, options.tokens, options.stores), (20, false, vec![Store::Etcd]));
        assert_eq!(options.nodes, Options::default().nodes);
        for line in ["--replicas", "--replicas 0", "--store x", "--nonsense 1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
