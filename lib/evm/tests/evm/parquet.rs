//! What the files hold, and that the same input gives the same bytes.

use std::collections::BTreeMap;

use ::parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    file::{reader::FileReader, serialized_reader::SerializedFileReader},
};
use alloy_primitives::{B64, B256, Bloom, U256, keccak256};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Decimal128Type, UInt64Type},
};
use dagwright_core::range::BlockRange;
use dagwright_evm::{
    Level, OutputKind, VerifiedBundle,
    parquet::{EncodeContext, EncodeError, EncodedFile, column_schema_version, encode, schema},
};
use serde_json::{Value, json};

use crate::common::{ASK_NOTHING, Fixture, execution_chain, io_receipts, known};

const KINDS: [OutputKind; 3] = [OutputKind::Blocks, OutputKind::Transactions, OutputKind::Logs];

fn context(profile: &str, start: u64, end: u64) -> EncodeContext<'static> {
    EncodeContext { chain_id: 1, profile: known(profile), range: BlockRange::new(start, end).unwrap() }
}

fn encode_fixture(fixture: &Fixture, kind: OutputKind) -> EncodedFile {
    let bundle = fixture.bundle();
    let number = bundle.block().header.number;
    encode(kind, &context(fixture.profile.name, number, number + 1), &[bundle]).unwrap()
}

fn mainnet() -> Fixture {
    Fixture::load("ethereum/18000000", "ethereum")
}

fn read_back(file: &EncodedFile) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn metadata(file: &EncodedFile) -> BTreeMap<String, String> {
    let reader = SerializedFileReader::new(file.bytes.clone()).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
}

fn bytes<'a>(batch: &'a RecordBatch, column: &str, row: usize) -> &'a [u8] {
    batch.column_by_name(column).unwrap().as_binary::<i32>().value(row)
}

fn number(batch: &RecordBatch, column: &str, row: usize) -> u64 {
    batch.column_by_name(column).unwrap().as_primitive::<UInt64Type>().value(row)
}

#[test]
fn the_same_blocks_give_the_same_bytes_whoever_answered() {
    let mut other = mainnet();
    // Another provider: fields in another order, and some that no root covers.
    let Value::Object(map) = other.block.take() else { panic!("a block is an object") };
    let mut reversed: serde_json::Map<String, Value> = map.into_iter().rev().collect();
    reversed.insert("totalDifficulty".to_owned(), json!("0xc70d815d562d3cfa955"));
    reversed.remove("size");
    other.block = Value::Object(reversed);
    for receipt in other.receipts.as_array_mut().unwrap() {
        receipt.as_object_mut().unwrap().remove("effectiveGasPrice");
        receipt.as_object_mut().unwrap().remove("gasUsed");
        receipt["l1Fee"] = json!("0x1");
    }
    for kind in KINDS {
        let (one, again, two) = (
            encode_fixture(&mainnet(), kind),
            encode_fixture(&mainnet(), kind),
            encode_fixture(&other, kind),
        );
        assert_eq!(one.bytes, again.bytes, "{kind}");
        assert_eq!(one.bytes, two.bytes, "{kind}");
        assert_eq!(one.content_hash, two.content_hash);
        assert_eq!(one.sha256, two.sha256);
    }
}

#[test]
fn row_counts_and_metadata_are_those_of_the_range() {
    let rows = KINDS.map(|kind| encode_fixture(&mainnet(), kind).rows);
    assert_eq!(rows, [1, 94, 291]);
    let file = encode_fixture(&mainnet(), OutputKind::Logs);
    let meta = metadata(&file);
    let expect = |key: &str, value: &str| assert_eq!(meta[&format!("dagwright.{key}")], value, "{key}");
    expect("kind", "logs");
    expect("chain_id", "1");
    expect("profile", "ethereum");
    expect("range_start", "18000000");
    expect("range_end", "18000001");
    expect("rows", "291");
    expect("verification", "verified");
    expect("unverifiable_checks", "");
    expect("last_block_hash", "0x95b198e154acbfc64109dfd22d8224fe927fd8dfdedfae01587674482ba4baf3");
    expect("first_parent_hash", &file.edges.first_parent_hash.to_string());
    expect("content_hash", &hex::encode(file.content_hash));
    assert_eq!(file.level, Level::Verified);
    assert_eq!(file.edges.last_hash.to_string(), meta["dagwright.last_block_hash"]);
}

#[test]
fn what_could_not_be_proven_is_written_down() {
    let file = encode_fixture(&Fixture::load("tempo-mainnet/17708868", "tempo"), OutputKind::Transactions);
    let meta = metadata(&file);
    assert_eq!(file.level, Level::Unverifiable);
    assert_eq!(meta["dagwright.verification"], "unverifiable");
    assert!(meta["dagwright.unverifiable_checks"].contains("transactions_root"));
}

#[test]
fn a_block_hash_can_be_recomputed_from_the_file_alone() {
    let batch = read_back(&encode_fixture(&mainnet(), OutputKind::Blocks));
    let hash = |column: &str| B256::from_slice(bytes(&batch, column, 0));
    let optional = |column: &str| batch.column_by_name(column).unwrap().is_valid(0).then(|| hash(column));
    let difficulty = batch.column_by_name("difficulty_binary").unwrap().as_fixed_size_binary();
    let header = alloy_consensus::Header {
        parent_hash: hash("parent_hash"),
        ommers_hash: hash("sha3_uncles"),
        beneficiary: alloy_primitives::Address::from_slice(bytes(&batch, "author", 0)),
        state_root: hash("state_root"),
        transactions_root: hash("transactions_root"),
        receipts_root: hash("receipts_root"),
        logs_bloom: Bloom::from_slice(bytes(&batch, "logs_bloom", 0)),
        difficulty: U256::from_be_slice(difficulty.value(0)),
        number: number(&batch, "block_number", 0),
        gas_limit: number(&batch, "gas_limit", 0),
        gas_used: number(&batch, "gas_used", 0),
        timestamp: number(&batch, "timestamp", 0),
        extra_data: bytes(&batch, "extra_data", 0).to_vec().into(),
        mix_hash: hash("mix_hash"),
        nonce: B64::from_slice(bytes(&batch, "nonce", 0)),
        base_fee_per_gas: Some(number(&batch, "base_fee_per_gas", 0)),
        withdrawals_root: optional("withdrawals_root"),
        ..Default::default()
    };
    assert_eq!(keccak256(alloy_rlp::encode(&header)), hash("block_hash"));
    assert_eq!(batch.column_by_name("withdrawals").unwrap().as_list::<i32>().value(0).len(), 16);
}

#[test]
fn transactions_hold_what_the_answer_said() {
    let fixture = mainnet();
    let batch = read_back(&encode_fixture(&fixture, OutputKind::Transactions));
    let hex_number = |value: &Value| u128::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
    let fee = |column: &str, row: usize| {
        batch.column_by_name(column).unwrap().as_primitive::<Decimal128Type>().value(row)
    };
    for row in 0..batch.num_rows() {
        let (tx, receipt) = (&fixture.block["transactions"][row], &fixture.receipts[row]);
        assert_eq!(
            format!("0x{}", hex::encode(bytes(&batch, "transaction_hash", row))),
            tx["hash"].as_str().unwrap()
        );
        let words = batch.column_by_name("value_binary").unwrap().as_fixed_size_binary();
        let value = U256::from_be_slice(words.value(row));
        assert_eq!(format!("{value:#x}"), tx["value"].as_str().unwrap());
        let text = batch.column_by_name("value_string").unwrap().as_string::<i32>().value(row);
        assert_eq!(text, value.to_string());
        assert_eq!(u128::from(number(&batch, "gas_used", row)), hex_number(&receipt["gasUsed"]));
        assert_eq!(fee("effective_gas_price", row).unsigned_abs(), hex_number(&receipt["effectiveGasPrice"]));
        assert_eq!(fee("gas_price", row).unsigned_abs(), hex_number(&tx["gasPrice"]));
        let success = batch.column_by_name("success").unwrap().as_boolean().value(row);
        assert_eq!(success, receipt["status"] == "0x1");
        let protected = tx["type"] != "0x0" || hex_number(&tx["v"]) >= 35;
        let chain = batch.column_by_name("signed_chain_id").unwrap();
        let signed = chain.is_valid(row).then(|| number(&batch, "signed_chain_id", row));
        assert_eq!(signed, protected.then_some(1), "row {row}");
    }
}

#[test]
fn before_byzantium_success_is_null_and_the_state_root_is_there() {
    let batch =
        read_back(&encode_fixture(&Fixture::load("ethereum/4369999", "ethereum"), OutputKind::Transactions));
    assert_eq!(batch.column_by_name("success").unwrap().null_count(), 22);
    assert_eq!(batch.column_by_name("post_state_root").unwrap().null_count(), 0);
    assert_eq!(bytes(&batch, "post_state_root", 0).len(), 32);
}

#[test]
fn chunks_have_statistics_and_no_bloom_filter_that_the_engine_misreads() {
    for kind in KINDS {
        let file = encode_fixture(&mainnet(), kind);
        let reader = SerializedFileReader::new(file.bytes.clone()).unwrap();
        let group = reader.metadata().row_group(0);
        assert!(group.columns().iter().all(|column| column.bloom_filter_offset().is_none()), "{kind}");
        let numbers = group.column(1).statistics().unwrap();
        let height = 18_000_000_u64.to_le_bytes();
        assert_eq!(
            (numbers.min_bytes_opt(), numbers.max_bytes_opt()),
            (Some(&height[..]), Some(&height[..]))
        );
        let sorted: Vec<i32> =
            group.sorting_columns().unwrap().iter().map(|column| column.column_idx).collect();
        let expected: &[i32] = match kind {
            OutputKind::Blocks => &[1],
            OutputKind::Transactions => &[1, 4],
            _ => &[1, 6],
        };
        assert_eq!(sorted, expected, "{kind}");
    }
}

fn local_chain(heights: std::ops::Range<u64>) -> Vec<VerifiedBundle> {
    heights.map(|height| Fixture::load(&format!("anvil/{height}"), "anvil").bundle()).collect()
}

#[test]
fn no_rows_is_a_valid_file() {
    for kind in [OutputKind::Transactions, OutputKind::Logs] {
        let file = encode(kind, &context("anvil", 6, 9), &local_chain(6..9)).unwrap();
        assert_eq!(file.rows, 0);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap();
        assert_eq!(builder.schema().fields().len(), schema(kind).unwrap().fields().len());
        assert_eq!(builder.build().unwrap().count(), 0);
        assert_eq!(metadata(&file)["dagwright.rows"], "0");
    }
}

#[test]
fn lists_of_new_transaction_types_are_kept() {
    let receipts_of = |block: &Value| {
        let height = u64::from_str_radix(&block["number"].as_str().unwrap()[2..], 16).unwrap();
        (height == 54).then(|| io_receipts("get-block-receipts-latest.io").unwrap())
    };
    let block = execution_chain().pop().unwrap();
    let fixture = Fixture { profile: known("dev"), receipts: receipts_of(&block).unwrap(), block };
    let batch = read_back(&encode_fixture(&fixture, OutputKind::Transactions));
    let answered = fixture.block["transactions"].as_array().unwrap();
    for (column, field) in [
        ("access_list", "accessList"),
        ("blob_versioned_hashes", "blobVersionedHashes"),
        ("authorization_list", "authorizationList"),
    ] {
        let lists = batch.column_by_name(column).unwrap().as_list::<i32>();
        for (row, tx) in answered.iter().enumerate() {
            let expected = tx.get(field).map(|list| list.as_array().unwrap().len());
            assert_eq!(lists.is_valid(row).then(|| lists.value(row).len()), expected, "{column} of {row}");
        }
    }
}

#[test]
fn a_changed_value_changes_the_content_hash() {
    let one = encode_fixture(&Fixture::load("ethereum/1000000", "ethereum"), OutputKind::Logs);
    let two = encode_fixture(&Fixture::load("ethereum/4369999", "ethereum"), OutputKind::Logs);
    assert_ne!(one.content_hash, two.content_hash);
    let number = 18_000_000;
    let mut other_chain = context("ethereum", number, number + 1);
    other_chain.chain_id = 2;
    let file = encode(OutputKind::Logs, &other_chain, &[mainnet().bundle()]).unwrap();
    assert_ne!(file.content_hash, encode_fixture(&mainnet(), OutputKind::Logs).content_hash);
}

#[test]
fn only_the_exact_range_is_written() {
    let bundle = mainnet().bundle();
    let short = encode(
        OutputKind::Blocks,
        &context("ethereum", 18_000_000, 18_000_002),
        std::slice::from_ref(&bundle),
    );
    assert_eq!(
        short.unwrap_err().to_string(),
        "range [18000000, 18000002) needs 2 blocks from 18000000, got 1 blocks from Some(18000000)"
    );
    let twice = encode(
        OutputKind::Blocks,
        &context("ethereum", 18_000_000, 18_000_002),
        &[bundle.clone(), bundle.clone()],
    );
    assert!(matches!(twice, Err(EncodeError::Link(_))));
    let traces = encode(OutputKind::Traces, &context("ethereum", 18_000_000, 18_000_001), &[bundle]);
    assert!(traces.unwrap_err().to_string().contains("traces is not supported yet"));
}

#[test]
fn a_bundle_of_a_failed_block_cannot_exist() {
    let fixture = mainnet();
    let (block, mut receipts) = fixture.decoded();
    let full = receipts.iter().position(|receipt| !receipt.logs.is_empty()).unwrap();
    receipts[full].logs.pop();
    let report = VerifiedBundle::verify(fixture.profile, block, receipts, ASK_NOTHING).unwrap_err();
    assert!(report.summary().starts_with("block 18000000 0x95b198"), "{}", report.summary());
}

#[test]
fn several_blocks_make_one_file_in_order() {
    let bundles = local_chain(0..9);
    let file = |kind| encode(kind, &context("anvil", 0, 9), &bundles).unwrap();
    let blocks = read_back(&file(OutputKind::Blocks));
    let numbers: Vec<u64> = (0..blocks.num_rows()).map(|row| number(&blocks, "block_number", row)).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    assert_eq!(file(OutputKind::Blocks).edges.first_parent_hash, B256::ZERO);

    let transactions = read_back(&file(OutputKind::Transactions));
    let place =
        |row| (number(&transactions, "block_number", row), number(&transactions, "transaction_index", row));
    let places: Vec<_> = (0..transactions.num_rows()).map(place).collect();
    assert!(places.is_sorted() && places.len() == 16, "{places:?}");
    let success = transactions.column_by_name("success").unwrap().as_boolean();
    assert_eq!(success.false_count(), 3, "three deployments reverted");
    let logs: u64 = (0..transactions.num_rows()).map(|row| number(&transactions, "n_logs", row)).sum();
    assert_eq!(file(OutputKind::Logs).rows, logs);
}

/// A changed column must raise the schema version: it enters every dataset's identity.
#[test]
fn columns_are_pinned_by_their_version() {
    let names = |kind| {
        schema(kind).unwrap().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(KINDS.map(column_schema_version), [1, 1, 1]);
    assert_eq!(
        names(OutputKind::Logs),
        "chain_id block_number block_hash timestamp transaction_index transaction_hash log_index address topic0 topic1 \
         topic2 topic3 data n_data_bytes"
    );
    assert_eq!(
        names(OutputKind::Blocks),
        "chain_id block_number block_hash parent_hash timestamp author gas_limit gas_used base_fee_per_gas extra_data \
         difficulty_binary difficulty_string sha3_uncles state_root transactions_root receipts_root logs_bloom mix_hash \
         nonce withdrawals_root blob_gas_used excess_blob_gas parent_beacon_block_root requests_hash \
         block_access_list_hash slot_number size n_transactions withdrawals extra_fields"
    );
    assert_eq!(
        names(OutputKind::Transactions),
        "chain_id block_number block_hash timestamp transaction_index transaction_hash transaction_type nonce \
         from_address to_address value_binary value_string input n_input_bytes n_input_zero_bytes n_input_nonzero_bytes \
         gas_limit gas_price max_fee_per_gas max_priority_fee_per_gas max_fee_per_blob_gas v r s signed_chain_id \
         access_list blob_versioned_hashes authorization_list extra_fields success post_state_root gas_used \
         cumulative_gas_used effective_gas_price contract_address blob_gas_used logs_bloom n_logs"
    );
    assert!(schema(OutputKind::Traces).is_err());
}

/// The rows of a block are the same on every machine, with every version of the writer. A change here changes what
/// datasets say: raise `EVM_INGEST_SEMANTICS`, or the column-schema version.
#[test]
fn content_is_pinned_by_the_semantics() {
    let hashes = KINDS.map(|kind| hex::encode(encode_fixture(&mainnet(), kind).content_hash));
    assert_eq!(dagwright_evm::EVM_INGEST_SEMANTICS, 1);
    assert_eq!(
        hashes,
        [
            "68199b54361f396da29df951d98569823ab5b475f64ee52629bb6c14d1b1ceb1",
            "84c553440613f9d01ad78483a5c79764bc5faf2e7f210a78732b36485911f0f2",
            "f2fad339f4c2b32a15d91fa9537bb146581c9fd40e86cfaea20330ff1a528590",
        ]
    );
}
