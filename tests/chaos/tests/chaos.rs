//! The fixed seeds that every change has to stand.

use std::{path::PathBuf, time::Duration};

use dagwright_chaos::run::{Chaos, Config, down};

/// Each deals half of its deck of faults.
const SEEDS: [u64; 2] = [1, 2];

#[tokio::test]
async fn fixed_seeds_lose_nothing_and_do_nothing_twice() {
    let stack = format!("{}-chaos", std::env::var("DAGWRIGHT_TEST_STACK").unwrap_or_else(|_| "test".into()));
    let proxy = PathBuf::from(std::env::var_os("DAGWRIGHT_BIN").expect("DAGWRIGHT_BIN is set by `./dev`"))
        .with_file_name("dagwright-fault-proxy");
    let mut chaos = Chaos::start(&stack, &proxy).await.expect("the stack starts");
    for (first_round, seed) in (0..).zip(SEEDS) {
        let config = Config {
            stack: stack.clone(),
            seed,
            first_round,
            rounds: 1,
            length: Duration::MAX,
            faults: dagwright_chaos::schedule::kinds().div_ceil(SEEDS.len()),
            faults_for: Duration::from_secs(60),
            patience: Duration::from_secs(360),
            keep_going: false,
        };
        let report = chaos.run(&config, |line| eprintln!("{line}")).await.expect("the harness works");
        eprintln!("{}", report.table());
        assert!(report.holds, "{}", report.failure());
    }
    drop(chaos);
    down(&stack, &["--purge"]).expect("the stack stops");
}
