//! Which methods pass. The gateway serves readers of chain data: nothing that signs, sends or administers goes through.

/// Whether a method may be forwarded.
#[must_use]
pub fn is_allowed(method: &str) -> bool {
    const DENIED: [&str; 6] =
        ["eth_send", "eth_sign", "eth_submit", "eth_accounts", "eth_coinbase", "eth_subscribe"];
    if DENIED.iter().any(|prefix| method.starts_with(prefix)) {
        return false;
    }
    let plain = method.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain
        && (["eth_", "debug_trace", "trace_"].iter().any(|prefix| method.starts_with(prefix))
            || ["net_version", "web3_clientVersion"].contains(&method))
}

/// The metric label of a method: one of a fixed list, so that callers cannot make series.
#[must_use]
pub fn label(method: &str) -> &'static str {
    const KNOWN: [&str; 14] = [
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getBlockReceipts",
        "eth_getCode",
        "eth_getLogs",
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "debug_traceBlockByNumber",
        "trace_block",
        "net_version",
    ];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Whether a null result of the method means "this provider does not have that block (yet)".
#[must_use]
pub fn null_means_missing(method: &str) -> bool {
    method.starts_with("eth_getBlock") || method == "trace_block" || method.starts_with("debug_traceBlock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_pass_and_writers_do_not() {
        for method in
            ["eth_getLogs", "net_version", "web3_clientVersion", "debug_traceBlockByNumber", "trace_block"]
        {
            assert!(is_allowed(method), "{method}");
        }
        for method in [
            "eth_sendRawTransaction",
            "eth_signTransaction",
            "eth_submitWork",
            "personal_unlockAccount",
            "admin_peers",
            "anvil_mine",
            "debug_setHead",
            "eth_get Logs",
            "",
        ] {
            assert!(!is_allowed(method), "{method}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        assert_eq!(label("eth_getLogs"), "eth_getLogs");
        assert_eq!(label("eth_invented"), "other");
    }
}
