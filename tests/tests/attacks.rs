//! The security suite: every applicable attack of the catalogue against a real server over real TLS. Runs anywhere.
//!
//! Cases that are a request and its answer are data in `tests/attacks/*.json`; what needs more than one connection, or
//! a connection that misbehaves, is a function in `attacks/`. `docs/security.md` lists all 84.

mod attacks {
    mod catalogue;
    mod floods;
    mod revocation;
    mod routes;
    mod tls;
}

use anyhow::{Result, ensure};
use drover_tests::attack::{Server, groups, play};

#[tokio::test]
async fn every_case_gets_its_answer() -> Result<()> {
    let server = Server::start().await?;
    let mut failed = Vec::new();
    println!("{:4} {:>7} {:>9} {:>5}  case", "id", "ms", "KiB", "asked");
    for group in groups()? {
        for object in &group.setup {
            server.create(object).await?;
        }
        for case in &group.cases {
            match play(&server, case).await {
                Ok(cost) => {
                    println!(
                        "{:4} {:>7} {:>+9} {:>5}  {}",
                        case.id, cost.millis, cost.grown_kib, cost.requests, case.name
                    );
                }
                Err(error) => failed.push(format!("{} {} ({}): {error:#}", case.id, case.name, group.group)),
            }
        }
    }
    ensure!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
    // The cases put canaries into secrets and into what is wrong with them: no line that the server wrote holds one.
    let log = server.log()?;
    let leaked: Vec<&str> = log.lines().filter(|line| line.contains("CANARY") || line.contains("Q0FOQVJZ")).collect();
    ensure!(leaked.is_empty(), "the server's log holds secrets:\n{}", leaked.join("\n"));
    Ok(())
}
