//! What can be read: the list that replaces SHOW, the schema that replaces DESCRIBE.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use dagwright_contracts::query::{Column, DatasetEntry, DatasetList, DatasetSchema};
use dagwright_telemetry::Rejection;

use super::{App, problem, unavailable};
use crate::{
    catalog::{self, CatalogDataset, CatalogSize},
    gate::DatasetName,
};

/// `GET /v1/datasets`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<DatasetList>, Rejection> {
    let caller = app.auth.caller(&headers).await?;
    let readable = app.readable(&caller).await?;
    let ids: Vec<_> = readable.values().map(|dataset| dataset.dataset_id).collect();
    let sizes = app.catalog.sizes(&ids).await.map_err(|error| unavailable(&error))?;
    let size = |dataset: &CatalogDataset| sizes.get(&dataset.dataset_id).copied().unwrap_or_default();
    let entries = readable.iter().map(|(name, dataset)| entry(name, dataset, size(dataset)));
    let mut datasets: Vec<_> = entries.collect();
    datasets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(DatasetList { datasets }))
}

/// `GET /v1/datasets/{schema.table}/schema`
pub(super) async fn schema(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<DatasetSchema>, Rejection> {
    let caller = app.auth.caller(&headers).await?;
    let readable = app.readable(&caller).await?;
    let wanted = name.to_lowercase();
    let found = readable.iter().find(|(name, _)| name.to_string() == wanted);
    let (name, dataset) = found.ok_or_else(|| {
        problem::of("NotFound", format!("dataset \"{wanted}\" does not exist or you may not read it"))
    })?;
    let columns = catalog::columns(&dataset.schema);
    let columns = columns.into_iter().map(|(name, data_type)| Column { name, data_type }).collect();
    Ok(Json(DatasetSchema { name: name.to_string(), columns }))
}

fn entry(name: &DatasetName, dataset: &CatalogDataset, size: CatalogSize) -> DatasetEntry {
    DatasetEntry {
        name: name.to_string(),
        namespace: dataset.namespace.clone(),
        dataset: dataset.name.clone(),
        version: dataset.version.map(|version| version.to_string()),
        objects: size.objects,
        rows: size.rows,
        bytes: size.bytes,
    }
}
