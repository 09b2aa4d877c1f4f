// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

/// Emits one log with each number of topics, 0 to 4, and with the call's data as theirs: also logs without a topic and without data.
contract LogShapes {
    fallback(bytes calldata data) external returns (bytes memory) {
        assembly {
            let at := mload(0x40)
            calldatacopy(at, data.offset, data.length)
            log0(at, data.length)
            log1(at, data.length, 1)
            log2(at, data.length, 1, 2)
            log3(at, data.length, 1, 2, 3)
            log4(at, data.length, 1, 2, 3, 4)
        }
        return data;
    }
}
