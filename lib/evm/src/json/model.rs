//! What we keep of a block, its transactions and its receipts.

use alloy_eips::{
    eip2930::{AccessList, AccessListItem},
    eip4895::Withdrawal,
};
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256};
use serde_json::{Map, Value};

use super::fields::{DecodeError, Fields, elements};

/// A block with full transactions.
#[derive(Debug, Clone)]
pub struct Block {
    pub header: Header,
    pub transactions: Vec<Transaction>,
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// Hashes of the ommers; their headers are not part of the answer.
    pub uncles: Vec<B256>,
    /// Bytes of the RLP block, as the provider says.
    pub size: Option<u64>,
    /// Sum of difficulties, as the provider says. No root covers it and one block cannot prove it.
    pub total_difficulty: Option<U256>,
}

/// A block header as answered, not yet trusted.
#[derive(Debug, Clone)]
pub struct Header {
    pub hash: B256,
    pub number: u64,
    pub parent_hash: B256,
    pub sha3_uncles: B256,
    pub author: Address,
    pub state_root: B256,
    pub transactions_root: B256,
    pub receipts_root: B256,
    pub logs_bloom: Bloom,
    pub difficulty: U256,
    pub gas_limit: u64,
    pub gas_used: u64,
    pub timestamp: u64,
    pub extra_data: Bytes,
    pub mix_hash: Option<B256>,
    pub nonce: Option<B64>,
    pub base_fee_per_gas: Option<u64>,
    pub withdrawals_root: Option<B256>,
    pub blob_gas_used: Option<u64>,
    pub excess_blob_gas: Option<u64>,
    pub parent_beacon_block_root: Option<B256>,
    pub requests_hash: Option<B256>,
    pub block_access_list_hash: Option<B256>,
    pub slot_number: Option<u64>,
    /// Fields that we do not model.
    pub extra: Map<String, Value>,
}

/// A transaction. Everything that only some types have is optional.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub tx_type: u64,
    pub hash: B256,
    pub block_hash: Option<B256>,
    pub block_number: Option<u64>,
    pub transaction_index: Option<u64>,
    pub block_timestamp: Option<u64>,
    pub from: Address,
    pub to: Option<Address>,
    pub nonce: Option<u64>,
    pub value: Option<U256>,
    pub gas: Option<u64>,
    pub gas_price: Option<u128>,
    pub max_fee_per_gas: Option<u128>,
    pub max_priority_fee_per_gas: Option<u128>,
    pub max_fee_per_blob_gas: Option<u128>,
    pub input: Option<Bytes>,
    pub chain_id: Option<u64>,
    pub v: Option<U256>,
    pub y_parity: Option<u64>,
    pub r: Option<U256>,
    pub s: Option<U256>,
    pub access_list: Option<AccessList>,
    pub blob_versioned_hashes: Option<Vec<B256>>,
    pub authorization_list: Option<Vec<Authorization>>,
    /// Fields that we do not model: all that is special of a chain's own types.
    pub extra: Map<String, Value>,
}

/// One EIP-7702 authorization.
#[derive(Debug, Clone)]
pub struct Authorization {
    pub chain_id: U256,
    pub address: Address,
    pub nonce: u64,
    pub y_parity: u64,
    pub r: U256,
    pub s: U256,
}

/// A receipt.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub tx_type: u64,
    /// Absent before Byzantium.
    pub status: Option<u64>,
    /// The intermediate state root of receipts before Byzantium.
    pub root: Option<Bytes>,
    pub cumulative_gas_used: u64,
    pub logs_bloom: Bloom,
    pub logs: Vec<Log>,
    pub transaction_hash: B256,
    pub transaction_index: u64,
    pub block_hash: B256,
    pub block_number: u64,
    pub from: Option<Address>,
    pub to: Option<Address>,
    pub contract_address: Option<Address>,
    pub gas_used: Option<u64>,
    pub effective_gas_price: Option<u128>,
    pub blob_gas_used: Option<u64>,
    pub blob_gas_price: Option<u128>,
    pub extra: Map<String, Value>,
}

/// A log with its place in the chain.
#[derive(Debug, Clone)]
pub struct Log {
    /// Address, topics and data: what the receipts root covers.
    pub inner: alloy_primitives::Log,
    pub block_hash: Option<B256>,
    pub block_number: Option<u64>,
    pub block_timestamp: Option<u64>,
    pub transaction_hash: B256,
    pub transaction_index: u64,
    pub log_index: u64,
    pub removed: bool,
}

/// Decodes a block from the `result` of a JSON-RPC answer.
///
/// # Errors
/// When it is null, or a field is missing or malformed.
pub fn block_from_value(value: Value) -> Result<Block, DecodeError> {
    if value.is_null() {
        return Err(DecodeError::Null { what: "block".to_owned() });
    }
    let mut fields = Fields::new(String::new(), value)?;
    let listed = fields.list("transactions")?;
    let listed = listed.ok_or_else(|| DecodeError::Missing { path: "transactions".to_owned() })?;
    let transactions =
        listed.into_iter().map(|(path, tx)| transaction(path, tx)).collect::<Result<_, _>>()?;
    let withdrawals = match fields.list("withdrawals")? {
        None => None,
        Some(items) => {
            Some(items.into_iter().map(|(path, item)| withdrawal(path, item)).collect::<Result<_, _>>()?)
        }
    };
    let uncles = fields.optional_list("uncles")?.unwrap_or_default();
    let (size, total_difficulty) = (fields.optional("size")?, fields.optional("totalDifficulty")?);
    Ok(Block { header: header(fields)?, transactions, withdrawals, uncles, size, total_difficulty })
}

/// Decodes the receipts of one block from the `result` of a JSON-RPC answer.
///
/// # Errors
/// When it is null or no array, or a field is missing or malformed. A null inside the array is an error too: some nodes
/// answer so for receipts that they lost.
pub fn receipts_from_value(value: Value) -> Result<Vec<Receipt>, DecodeError> {
    if value.is_null() {
        return Err(DecodeError::Null { what: "receipts".to_owned() });
    }
    elements("receipts", value)?.into_iter().map(|(path, item)| receipt(path, item)).collect()
}

fn header(mut f: Fields) -> Result<Header, DecodeError> {
    Ok(Header {
        hash: f.required("hash")?,
        number: f.required("number")?,
        parent_hash: f.required("parentHash")?,
        sha3_uncles: f.required("sha3Uncles")?,
        author: f.required("miner")?,
        state_root: f.required("stateRoot")?,
        transactions_root: f.required("transactionsRoot")?,
        receipts_root: f.required("receiptsRoot")?,
        logs_bloom: f.required("logsBloom")?,
        difficulty: f.required("difficulty")?,
        gas_limit: f.required("gasLimit")?,
        gas_used: f.required("gasUsed")?,
        timestamp: f.required("timestamp")?,
        extra_data: f.required("extraData")?,
        mix_hash: f.optional("mixHash")?,
        nonce: f.optional("nonce")?,
        base_fee_per_gas: f.optional("baseFeePerGas")?,
        withdrawals_root: f.optional("withdrawalsRoot")?,
        blob_gas_used: f.optional("blobGasUsed")?,
        excess_blob_gas: f.optional("excessBlobGas")?,
        parent_beacon_block_root: f.optional("parentBeaconBlockRoot")?,
        requests_hash: f.optional("requestsHash")?,
        block_access_list_hash: f.optional("blockAccessListHash")?,
        slot_number: f.optional("slotNumber")?,
        extra: f.rest(),
    })
}

fn transaction(path: String, value: Value) -> Result<Transaction, DecodeError> {
    let mut f = Fields::new(path, value)?;
    let access_list = match f.list("accessList")? {
        None => None,
        Some(items) => {
            let read: Result<Vec<_>, _> =
                items.into_iter().map(|(path, item)| access_list_item(path, item)).collect();
            Some(AccessList(read?))
        }
    };
    let authorization_list = match f.list("authorizationList")? {
        None => None,
        Some(items) => {
            Some(items.into_iter().map(|(path, item)| authorization(path, item)).collect::<Result<_, _>>()?)
        }
    };
    Ok(Transaction {
        tx_type: f.optional("type")?.unwrap_or(0),
        hash: f.required("hash")?,
        block_hash: f.optional("blockHash")?,
        block_number: f.optional("blockNumber")?,
        transaction_index: f.optional("transactionIndex")?,
        block_timestamp: f.optional("blockTimestamp")?,
        from: f.required("from")?,
        to: f.optional("to")?,
        nonce: f.optional("nonce")?,
        value: f.optional("value")?,
        gas: f.optional("gas")?,
        gas_price: f.optional("gasPrice")?,
        max_fee_per_gas: f.optional("maxFeePerGas")?,
        max_priority_fee_per_gas: f.optional("maxPriorityFeePerGas")?,
        max_fee_per_blob_gas: f.optional("maxFeePerBlobGas")?,
        input: f.optional("input")?,
        chain_id: f.optional("chainId")?,
        v: f.optional("v")?,
        y_parity: f.optional("yParity")?,
        r: f.optional("r")?,
        s: f.optional("s")?,
        access_list,
        blob_versioned_hashes: f.optional_list("blobVersionedHashes")?,
        authorization_list,
        extra: f.rest(),
    })
}

fn access_list_item(path: String, value: Value) -> Result<AccessListItem, DecodeError> {
    let mut f = Fields::new(path, value)?;
    let address = f.required("address")?;
    Ok(AccessListItem { address, storage_keys: f.optional_list("storageKeys")?.unwrap_or_default() })
}

fn authorization(path: String, value: Value) -> Result<Authorization, DecodeError> {
    let mut f = Fields::new(path, value)?;
    let y_parity = match f.optional("yParity")? {
        Some(parity) => parity,
        None => f.required("v")?,
    };
    Ok(Authorization {
        chain_id: f.required("chainId")?,
        address: f.required("address")?,
        nonce: f.required("nonce")?,
        y_parity,
        r: f.required("r")?,
        s: f.required("s")?,
    })
}

fn withdrawal(path: String, value: Value) -> Result<Withdrawal, DecodeError> {
    let mut f = Fields::new(path, value)?;
    Ok(Withdrawal {
        index: f.required("index")?,
        validator_index: f.required("validatorIndex")?,
        address: f.required("address")?,
        amount: f.required("amount")?,
    })
}

fn receipt(path: String, value: Value) -> Result<Receipt, DecodeError> {
    let mut f = Fields::new(path, value)?;
    let listed = f.list("logs")?.ok_or_else(|| DecodeError::Missing { path: f.child("logs") })?;
    Ok(Receipt {
        tx_type: f.optional("type")?.unwrap_or(0),
        status: f.optional("status")?,
        root: f.optional("root")?,
        cumulative_gas_used: f.required("cumulativeGasUsed")?,
        logs_bloom: f.required("logsBloom")?,
        logs: listed.into_iter().map(|(path, item)| log(path, item)).collect::<Result<_, _>>()?,
        transaction_hash: f.required("transactionHash")?,
        transaction_index: f.required("transactionIndex")?,
        block_hash: f.required("blockHash")?,
        block_number: f.required("blockNumber")?,
        from: f.optional("from")?,
        to: f.optional("to")?,
        contract_address: f.optional("contractAddress")?,
        gas_used: f.optional("gasUsed")?,
        effective_gas_price: f.optional("effectiveGasPrice")?,
        blob_gas_used: f.optional("blobGasUsed")?,
        blob_gas_price: f.optional("blobGasPrice")?,
        extra: f.rest(),
    })
}

fn log(path: String, value: Value) -> Result<Log, DecodeError> {
    let mut f = Fields::new(path, value)?;
    let topics: Option<Vec<B256>> = f.optional_list("topics")?;
    let topics = topics.ok_or_else(|| DecodeError::Missing { path: f.child("topics") })?;
    let (address, data) = (f.required("address")?, f.required("data")?);
    Ok(Log {
        inner: alloy_primitives::Log::new_unchecked(address, topics, data),
        block_hash: f.optional("blockHash")?,
        block_number: f.optional("blockNumber")?,
        block_timestamp: f.optional("blockTimestamp")?,
        transaction_hash: f.required("transactionHash")?,
        transaction_index: f.required("transactionIndex")?,
        log_index: f.required("logIndex")?,
        removed: f.optional("removed")?.unwrap_or(false),
    })
}
