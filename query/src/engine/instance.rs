//! An engine instance for a stranger's query: opened, given its relations, locked, checked.
//!
//! The order matters: extensions load before external access ends, paths are allowed before it ends, and nothing can be set
//! after the lock. The instance holds no credential: what it may read are URLs of the service's own object gateway.

use std::{fmt::Write as _, path::Path};

use duckdb::{Config, Connection};

use super::protocol::Relation;

/// What a process gives its instance.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    pub memory_mib: u64,
    pub threads: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error("open the engine")]
    Open(#[source] duckdb::Error),
    #[error("load extension {path}")]
    Load {
        path: String,
        #[source]
        source: duckdb::Error,
    },
    #[error("define relation {name}")]
    Define {
        name: String,
        #[source]
        source: duckdb::Error,
    },
    #[error("relation {0} has neither objects nor columns")]
    Empty(String),
    #[error("column type \"{0}\" is no engine type")]
    ColumnType(String),
    #[error("lock the engine")]
    Lock(#[source] duckdb::Error),
    #[error("the engine is not locked: {0}")]
    NotLocked(&'static str),
}

/// Settings of a blank instance, before it knows what it will read.
///
/// Objects are immutable, so nothing needs to be asked twice. `hive_partitioning` and friends are set per view.
const BLANK: &str = "
    SET enable_http_metadata_cache=true; SET parquet_metadata_cache=true;
    SET validate_external_file_cache='NO_VALIDATION'; SET httpfs_connection_caching=true;
    SET http_timeout=10; SET http_retries=2; SET max_expression_depth=250; SET catalog_error_max_schemas=0;
    SET TimeZone='UTC'; SET enable_progress_bar=false;";

/// Opens an instance and loads httpfs from `extension_dir`. DuckDB verifies the extension's signature itself.
///
/// # Errors
/// When the library or the extension cannot be used.
pub fn open_blank(extension_dir: &Path, resources: Resources) -> Result<Connection, InstanceError> {
    let open = || -> duckdb::Result<Connection> {
        let config = Config::default()
            .with("autoinstall_known_extensions", "false")?
            .with("autoload_known_extensions", "false")?
            .with("allow_community_extensions", "false")?
            .with("allow_persistent_secrets", "false")?
            .with("memory_limit", format!("{}MiB", resources.memory_mib))?
            .with("threads", resources.threads.to_string())?;
        Connection::open_in_memory_with_flags(config)
    };
    let connection = open().map_err(InstanceError::Open)?;
    let path = extension_dir.join("httpfs.duckdb_extension").display().to_string();
    connection
        .execute_batch(&format!("LOAD {}", literal(&path)))
        .map_err(|source| InstanceError::Load { path, source })?;
    connection.execute_batch(BLANK).map_err(InstanceError::Open)?;
    Ok(connection)
}

/// Defines each relation as a view, then locks the instance to exactly their objects and checks that it is.
///
/// # Errors
/// When an object cannot be read or the lock does not hold; then nothing may run.
pub fn bind_and_lock(connection: &Connection, relations: &[Relation]) -> Result<(), InstanceError> {
    for relation in relations {
        let name = relation.name.to_string();
        let sql = view(relation)?;
        connection.execute_batch(&sql).map_err(|source| InstanceError::Define { name, source })?;
    }
    let urls: Vec<&str> = relations.iter().flat_map(|r| &r.urls).map(String::as_str).collect();
    lock(connection, &urls)
}

/// Ends all access but to `urls`.
///
/// # Errors
/// When a setting is refused or does not read back as it was set.
pub fn lock(connection: &Connection, urls: &[&str]) -> Result<(), InstanceError> {
    let sql = format!(
        "SET temp_directory=''; SET allowed_paths={}; SET enable_external_access=false;
         SET disabled_filesystems='LocalFileSystem'; SET lock_configuration=true;",
        list(urls)
    );
    connection.execute_batch(&sql).map_err(InstanceError::Lock)?;
    read_back(connection, urls)
}

/// A lock that silently did nothing would be worse than none.
fn read_back(connection: &Connection, urls: &[&str]) -> Result<(), InstanceError> {
    let ask =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, bool>(0)).map_err(InstanceError::Lock);
    let setting = |name: &str| format!("current_setting('{name}')");
    if ask(&format!("SELECT {}", setting("enable_external_access")))? {
        return Err(InstanceError::NotLocked("external access is on"));
    }
    if !ask(&format!("SELECT {}", setting("lock_configuration")))? {
        return Err(InstanceError::NotLocked("configuration can be changed"));
    }
    let paths = setting("allowed_paths");
    if !ask(&format!("SELECT list_sort({paths}) = list_sort({}::VARCHAR[])", list(urls)))? {
        return Err(InstanceError::NotLocked("allowed paths differ from the query's objects"));
    }
    if !ask(&format!("SELECT len({}) = 0", setting("allowed_directories")))? {
        return Err(InstanceError::NotLocked("a directory is allowed"));
    }
    // `disabled_filesystems` reads back empty even when set.
    match connection.execute_batch("SELECT content FROM read_text('/dev/null')") {
        Ok(()) => Err(InstanceError::NotLocked("local files can be read")),
        Err(_) => Ok(()),
    }
}

fn view(relation: &Relation) -> Result<String, InstanceError> {
    let (schema, table) = (identifier(&relation.name.schema), identifier(&relation.name.table));
    let body = if relation.urls.is_empty() {
        empty(relation)?
    } else {
        let urls: Vec<&str> = relation.urls.iter().map(String::as_str).collect();
        format!("SELECT * FROM read_parquet({}, union_by_name=true, hive_partitioning=false)", list(&urls))
    };
    Ok(format!("CREATE SCHEMA IF NOT EXISTS {schema}; CREATE VIEW {schema}.{table} AS {body};"))
}

/// A dataset that has a schema and no data yet.
fn empty(relation: &Relation) -> Result<String, InstanceError> {
    if relation.columns.is_empty() {
        return Err(InstanceError::Empty(relation.name.to_string()));
    }
    let mut sql = String::from("SELECT ");
    for (i, (name, data_type)) in relation.columns.iter().enumerate() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_ (),[]".contains(&b);
        if data_type.is_empty() || !data_type.bytes().all(plain) {
            return Err(InstanceError::ColumnType(data_type.clone()));
        }
        let comma = if i == 0 { "" } else { ", " };
        let _ = write!(sql, "{comma}CAST(NULL AS {data_type}) AS {}", identifier(name));
    }
    sql.push_str(" WHERE false");
    Ok(sql)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list(items: &[&str]) -> String {
    format!("[{}]", items.iter().map(|item| literal(item)).collect::<Vec<_>>().join(", "))
}
