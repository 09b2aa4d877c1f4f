//! The fixed seed that every change has to stand.

use std::{path::PathBuf, time::Duration};

use dagwright_chaos::{
    report::Report,
    run::{Chaos, Config, down},
    schedule,
};

const SEED: u64 = 1;
/// The deck of faults is dealt out over these.
const ROUNDS: u32 = 2;
/// A change that makes rounds crawl is told so here, and not by CI's own limit.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

#[tokio::test]
async fn a_fixed_seed_loses_nothing_and_does_nothing_twice() {
    let stack = format!("{}-chaos", std::env::var("DAGWRIGHT_TEST_STACK").unwrap_or_else(|_| "test".into()));
    let proxy = PathBuf::from(std::env::var_os("DAGWRIGHT_BIN").expect("DAGWRIGHT_BIN is set by `./dev`"))
        .with_file_name("dagwright-fault-proxy");
    let config = Config {
        stack: stack.clone(),
        seed: SEED,
        first_round: 0,
        rounds: ROUNDS,
        length: Duration::MAX,
        faults: schedule::kinds().div_ceil(ROUNDS as usize),
        faults_for: Duration::from_secs(60),
        patience: Duration::from_secs(360),
        keep_going: false,
    };
    let mut chaos = Chaos::start(&stack, &proxy).await.expect("the stack starts");
    let mut report = Report::new(&config);
    let run = chaos.run(&config, &mut report, |line| eprintln!("{line}"));
    if tokio::time::timeout(DEADLINE, run).await.is_err() {
        report.cut_short("not done in 15 minutes");
    }
    eprintln!("{}", report.table());
    assert!(report.holds, "{}", report.failure());
    something_happened(&report);
    drop(chaos);
    down(&stack, &["--purge"]).expect("the stack stops");
}

/// A verdict over faults that did nothing is none.
fn something_happened(report: &Report) {
    let kinds = schedule::all_kinds();
    let dealt: Vec<&String> = kinds.iter().filter(|kind| report.faults.contains_key(*kind)).collect();
    assert_eq!(dealt.len(), kinds.len(), "only these were dealt: {dealt:?}");
    let (injected, missed) = report
        .faults
        .values()
        .fold((0, 0), |(injected, missed), count| (injected + count.injected, missed + count.missed));
    // Some hit a process that another fault has just ended, or a service that nobody asked just then.
    assert!(injected * 5 >= (injected + missed) * 4, "{missed} faults of {} were in vain", injected + missed);
    for service in ["SQS", "S3", "STS", "ECS"] {
        let struck = report.faults.iter().filter(|(kind, _)| kind.starts_with(service));
        let requests: u64 = struck.map(|(_, count)| count.requests).sum();
        assert!(requests >= 10, "{requests} requests to {service} were struck");
    }
    assert!(report.rounds.iter().all(|round| round.checked.looks > 5), "hardly a look while work went on");
    assert!(report.checked.unpointed > 0, "no orphan was there to be swept");
}
