//! A Postgres cluster of the benchmark's own, as durable as one in production.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use dagwright_cli::{
    paths,
    stack::{
        DATABASE_ROLES,
        postgres::{adopt, prepare, provision, server_user},
    },
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::process::Command;
use uuid::Uuid;

use crate::process::{Process, Spec, free_port};

/// What differs from Postgres' defaults, or is said because it matters here.
pub(crate) const SETTINGS: [&str; 6] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "max_connections=200",
];

const STATEMENTS: &str = "pg_stat_statements";

/// The server.
#[derive(Debug)]
pub(crate) struct Postgres {
    process: Process,
    bin: PathBuf,
    port: u16,
    passwords: BTreeMap<String, String>,
}

impl Postgres {
    /// Makes and starts a cluster in `dir`.
    pub(crate) async fn start(bin: &Path, dir: &Path, statements: bool) -> anyhow::Result<Self> {
        let folder = dir.join("postgres");
        let data = prepare(bin, &folder, &paths::cache_dir()?)?;
        let port = free_port()?;
        let mut args = vec!["-D".into(), data.display().to_string(), "-p".into(), port.to_string()];
        let network = ["listen_addresses=127.0.0.1", "unix_socket_directories="];
        let loaded = statements.then_some("shared_preload_libraries=pg_stat_statements");
        for setting in SETTINGS.into_iter().chain(network).chain(loaded) {
            args.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let program = bin.join("postgres");
        let spec = Spec { name: "postgres", program: &program, args, env: vec![], user: server_user()? };
        let process = Process::start(spec, dir)?;
        let password = |role: &&str| ((*role).to_owned(), Uuid::new_v4().simple().to_string());
        let passwords = DATABASE_ROLES.iter().map(password).collect();
        let server = Self { process, bin: bin.to_owned(), port, passwords };
        adopt(&server.url("postgres", "postgres"), Duration::from_secs(60))
            .await
            .with_context(|| format!("the log of Postgres says:\n{}", server.process.tail()))?;
        provision(&server.url("postgres", "postgres"), &server.passwords).await?;
        Ok(server)
    }

    /// Pid of the postmaster.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Connection string of a role for a database.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        let password = self.passwords.get(role).map_or("", String::as_str);
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A database as superuser, without time limits.
    pub(crate) async fn admin(&self, database: &str) -> anyhow::Result<PgPool> {
        let pool = PgPoolOptions::new().max_connections(8).connect(&self.url("postgres", database)).await;
        pool.with_context(|| format!("connect to database {database} as superuser"))
    }

    /// An empty database; an earlier one of that name goes.
    pub(crate) async fn fresh(&self, database: &str) -> anyhow::Result<PgPool> {
        let admin = self.admin("postgres").await?;
        for sql in [
            format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"),
            format!("CREATE DATABASE {database}"),
        ] {
            let made = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&admin).await;
            made.with_context(|| format!("make the database {database} anew"))?;
        }
        self.admin(database).await
    }

    /// The product's state database, empty and migrated, as superuser.
    pub(crate) async fn fresh_state(&self) -> anyhow::Result<PgPool> {
        self.fresh("state").await?.close().await;
        let admin = self.admin("postgres").await?;
        sqlx::raw_sql("ALTER DATABASE state OWNER TO dagwright_migrate").execute(&admin).await?;
        provision(&self.url("postgres", "postgres"), &self.passwords).await?;
        let owner = dagwright_state::connect(&self.url("dagwright_migrate", "state"), "bench migration")?;
        dagwright_state::migrate(&owner).await?;
        owner.close().await;
        self.admin("state").await
    }

    /// Its version, as it says it.
    pub(crate) async fn version(&self) -> anyhow::Result<String> {
        let admin = self.admin("postgres").await?;
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&admin).await?;
        Ok(format!("PostgreSQL {version}"))
    }

    /// Transactions a second of `pgbench -N`: one row updated, one read, one inserted, one commit.
    pub(crate) async fn pgbench(&self, seconds: u64) -> anyhow::Result<f64> {
        self.fresh("pgbench").await?.close().await;
        self.run_pgbench(&["-i", "-q", "-s", "20"]).await?;
        let text = self.run_pgbench(&["-N", "-c", "8", "-j", "2", "-T", &seconds.to_string()]).await?;
        let tps = text.lines().find_map(|l| l.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.with_context(|| format!("pgbench printed no tps:\n{text}"))
    }

    async fn run_pgbench(&self, args: &[&str]) -> anyhow::Result<String> {
        let beside = Some(self.bin.join("pgbench")).filter(|file| file.is_file());
        let program = beside.or_else(|| paths::on_path("pgbench"));
        let program = program.context("pgbench is missing; try: apt-get install postgresql-contrib")?;
        let done = Command::new(program)
            .args(args)
            .arg(self.url("postgres", "pgbench"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run pgbench")?;
        if !done.status.success() {
            bail!("pgbench failed: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Forgets what statements cost so far.
    pub(crate) async fn reset_statements(&self, db: &PgPool) -> anyhow::Result<()> {
        let sql = format!("CREATE EXTENSION IF NOT EXISTS {STATEMENTS}; SELECT pg_stat_statements_reset()");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(db).await.context("reset pg_stat_statements")?;
        Ok(())
    }

    /// The dearest statements since, for people.
    pub(crate) async fn statements(&self, db: &PgPool) -> anyhow::Result<String> {
        let rows: Vec<(f64, i64, f64, i64, String)> = sqlx::query_as(
            "SELECT total_exec_time, calls, mean_exec_time, rows, regexp_replace(query, '\\s+', ' ', 'g')
             FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
             ORDER BY total_exec_time DESC LIMIT 20",
        )
        .fetch_all(db)
        .await
        .context("read pg_stat_statements")?;
        let line = |(total, calls, mean, rows, query): &(f64, i64, f64, i64, String)| {
            let query: String = query.chars().take(140).collect();
            format!("{total:>9.0} ms {calls:>8} calls {mean:>8.3} ms each {rows:>8} rows  {query}")
        };
        Ok(rows.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
