use dagwright_crds::{
    conditions::STORAGE_NOT_AVAILABLE,
    dataset::{DatasetSpec, Partitioning, Storage, TableSchema},
};

use crate::engine::Stall;

/// What this version can keep.
pub(super) fn storage(spec: &DatasetSpec) -> Result<(), Stall> {
    let stall = |message: &str| Err(Stall::new(STORAGE_NOT_AVAILABLE, message));
    match (&spec.storage, &spec.schema, &spec.partitioning) {
        (Storage::Postgres(_) | Storage::HotCold(_), _, _) => {
            stall("spec.storage: this version keeps data on S3 only; write storage: {s3: {}}")
        }
        (
            Storage::S3(_),
            TableSchema::Evm(_),
            Some(Partitioning::Time(_) | Partitioning::Hash(_) | Partitioning::Single(_)),
        ) => stall(
            "spec.partitioning: the outputs of evm_ingest are cut by block range; write partitioning: {blockRange: {}} or leave it out",
        ),
        (Storage::S3(_), _, _) => Ok(()),
    }
}
