//! `evm_ingest` against real nodes whose answers are falsified on the way: whatever a provider claims, nothing wrong comes
//! out, the provider is named, and another one's answers give the same bytes as the truth.
#![expect(clippy::unwrap_used, reason = "a test panics with what went wrong")]

mod common;

use dagwright_contracts::gateway::ProviderState;
use dagwright_evm::parquet::EncodedFile;
use dagwright_testkit::fault_proxy::{Fault, Lie, Rule};
use dagwright_worker::operators::Reason;

use crate::common::{BLOCKS, pool, read};

fn bytes(files: &[EncodedFile]) -> Vec<&[u8]> {
    files.iter().map(|file| file.bytes.as_ref()).collect()
}

#[tokio::test]
async fn a_range_gives_the_same_bytes_from_every_provider() {
    let pool = pool().await;
    let (first, second) = (read(&pool, &[]).await.unwrap(), read(&pool, &["a"]).await.unwrap());
    assert!(pool.faults(1).calls("eth_getBlockReceipts") > BLOCKS, "the second run read from provider b");
    assert_eq!(bytes(&first), bytes(&second));
    assert_eq!(first[0].rows, BLOCKS + 1);
    assert!(first[1].rows > 0 && first[2].rows > 0, "the chain has transactions and logs");
}

#[tokio::test]
async fn a_lie_is_never_written_and_names_its_provider() {
    let pool = pool().await;
    let truth = read(&pool, &["a"]).await.unwrap();
    for lie in [
        Lie::ShortReceipts,
        Lie::EmptyReceipts,
        Lie::NullInsideReceipts,
        Lie::DropLogs,
        Lie::DropOneLog,
        Lie::CopyLog,
        Lie::AlterTopic,
        Lie::AlterData,
        Lie::AlterValue,
        Lie::AlterSender,
        Lie::AlterHeader,
        Lie::SiblingReceipts,
        Lie::OtherBlock,
    ] {
        // A pool of its own, because the liar is cordoned.
        let pool = pool.again();
        let faults = pool.faults(0);
        let rule = faults.add(Rule::always(Fault::Lie(lie.clone())));
        let error = read(&pool, &[]).await.expect_err(&format!("{lie:?} was believed"));
        assert_eq!(error.reason, Reason::VerificationFailed, "{lie:?}: {error}");
        assert_eq!((error.provider.as_deref(), error.retryable), (Some("a"), true), "{lie:?}: {error}");
        assert!(error.message.contains("provider a") && error.message.contains("block "), "{error}");
        assert!(faults.hits(rule) > 0);
        assert_eq!(pool.state("a"), ProviderState::Cordoned, "{lie:?}");
        let retried = read(&pool, &["a"]).await.unwrap();
        assert_eq!(bytes(&retried), bytes(&truth), "{lie:?}");
        faults.clear();
    }
}

#[tokio::test]
async fn a_shape_that_nobody_knows_costs_the_provider_and_not_the_task() {
    let pool = pool().await;
    let truth = read(&pool, &["a"]).await.unwrap();
    let (first, second) = (pool.faults(0), pool.faults(1));
    let rule = first.add(Rule::always(Fault::Lie(Lie::UnknownType)));
    let error = read(&pool, &[]).await.unwrap_err();
    assert!(first.hits(rule) > 0);
    assert_eq!((error.reason, error.retryable), (Reason::Unverifiable, true), "{error}");
    assert_eq!(error.provider.as_deref(), Some("a"), "{error}");
    assert!(error.message.contains("0x55") && error.message.contains("provider a"), "{error}");
    assert_ne!(pool.state("a"), ProviderState::Cordoned, "it is not disproved either");
    let retried = read(&pool, &["a"]).await.unwrap();
    assert_eq!(bytes(&retried), bytes(&truth));

    // All say so: still no more than a failed attempt. How many there are is the stream's maxAttempts.
    second.add(Rule::always(Fault::Lie(Lie::UnknownType)));
    let error = read(&pool, &["a"]).await.unwrap_err();
    assert_eq!(
        (error.reason, error.retryable, error.provider.as_deref()),
        (Reason::Unverifiable, true, Some("b"))
    );
}

#[tokio::test]
async fn trouble_on_the_way_is_waited_out() {
    let pool = pool().await;
    for provider in [0, 1] {
        let unavailable = Fault::Status { status: 503, body: "later".into(), retry_after: None };
        pool.faults(provider).add(Rule::always(unavailable).times(6));
        pool.faults(provider).add(Rule::always(Fault::Reset).times(2));
        pool.faults(provider).add(Rule::always(Fault::Lie(Lie::Null)).on_block(3).times(1));
    }
    let files = read(&pool, &[]).await.unwrap();
    assert_eq!(files[0].rows, BLOCKS + 1);
}
