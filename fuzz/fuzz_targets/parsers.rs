//! Every parser behind libFuzzer. `DROVER_FUZZ_TARGET` names the one to run.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};

type Run = fn(&[u8]);

#[allow(unused_mut, reason = "without the other crates nothing is added")]
fn targets() -> Vec<(&'static str, Run)> {
    let mut all: Vec<(&'static str, Run)> = drover_api::fuzzing::TARGETS.to_vec();
    #[cfg(feature = "server")]
    {
        all.push(("store_record", drover_store::fuzzing::record));
        all.extend(drover_apiserver::fuzzing::TARGETS);
    }
    #[cfg(feature = "agent")]
    all.extend(drover_agent::fuzzing::TARGETS);
    all
}

fn chosen() -> Run {
    static CHOSEN: OnceLock<Run> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("DROVER_FUZZ_TARGET").unwrap_or_default();
        let found = targets().into_iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("DROVER_FUZZ_TARGET names no target: {name:?}")).1
    })
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    chosen()(bytes);
    Corpus::Keep
});
