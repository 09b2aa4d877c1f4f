//! A private Postgres cluster: made once, copied from a template afterwards, with two databases and least-privilege
//! roles.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::settings::{DATABASE_ROLES, write_private};

/// Password of the superuser inside the template; every cluster replaces it at its first start.
const TEMPLATE_PASSWORD: &str = "template";

/// Makes the cluster's folder unless it is there.
pub fn prepare(bin: &Path, folder: &Path, cache: &Path) -> anyhow::Result<PathBuf> {
    let data = folder.join("data");
    if data.join("PG_VERSION").is_file() {
        return Ok(data);
    }
    let user = server_user()?;
    own(folder, user)?;
    let major = crate::parts::postgres_major(bin).context("ask Postgres for its version")?;
    let uid = user.map_or_else(|| nix::unistd::geteuid().as_raw(), |(uid, _)| uid);
    let template = cache.join(format!("postgres-template-{major}-{uid}"));
    if !template.join("PG_VERSION").is_file() {
        initdb(bin, folder, user)?;
        publish(&folder.join("initdb"), &template)?;
    }
    let partial = folder.join("data.partial");
    let _ = fs::remove_dir_all(&partial);
    copy(&template, &partial)?;
    fs::rename(&partial, &data).context("put the cluster in place")?;
    Ok(data)
}

/// Postgres refuses to run as root: then it runs as its own user, or as nobody.
pub fn server_user() -> anyhow::Result<Option<(u32, u32)>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = nix::unistd::User::from_name(name).context("read the list of users")? {
            return Ok(Some((user.uid.as_raw(), user.gid.as_raw())));
        }
    }
    bail!("Postgres cannot run as root, and there is neither a user postgres nor a user nobody")
}

fn own(folder: &Path, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let Some((uid, gid)) = user else { return Ok(()) };
    chown(folder, Some(uid), Some(gid)).with_context(|| format!("hand {} to Postgres", folder.display()))?;
    for ancestor in folder.ancestors().skip(1) {
        let mode = fs::metadata(ancestor)
            .with_context(|| format!("look at {}", ancestor.display()))?
            .permissions()
            .mode();
        if mode & 0o001 == 0 {
            bail!(
                "Postgres runs as another user than root and cannot enter {}\n  \
                 set DAGWRIGHT_HOME to a folder that everybody may enter, such as /var/lib/dagwright",
                ancestor.display()
            );
        }
    }
    Ok(())
}

fn initdb(bin: &Path, folder: &Path, user: Option<(u32, u32)>) -> anyhow::Result<()> {
    let data = folder.join("initdb");
    let _ = fs::remove_dir_all(&data);
    let password = folder.join("password");
    write_private(&password, TEMPLATE_PASSWORD.as_bytes())?;
    let mut command = Command::new(bin.join("initdb"));
    command.arg("-D").arg(&data).arg("--pwfile").arg(&password);
    command.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
    command.current_dir(folder);
    if let Some((uid, gid)) = user {
        chown(&password, Some(uid), Some(gid)).context("hand the password file to Postgres")?;
        command.uid(uid).gid(gid);
    }
    let output = command.output().with_context(|| format!("run {}", bin.join("initdb").display()))?;
    fs::remove_file(&password).context("remove the password file")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// By way of a name of its own: another stack may do the same at this moment.
fn publish(made: &Path, template: &Path) -> anyhow::Result<()> {
    let partial = template.with_extension(format!("{}", std::process::id()));
    let _ = fs::remove_dir_all(&partial);
    copy(made, &partial)?;
    fs::remove_dir_all(made).context("remove the first cluster")?;
    if fs::rename(&partial, template).is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    if template.join("PG_VERSION").is_file() {
        Ok(())
    } else {
        bail!("the template {} is not complete", template.display())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("run cp")?;
    if status.success() { Ok(()) } else { bail!("cp -a {} {} failed", from.display(), to.display()) }
}

/// Command line of the server.
pub(crate) fn arguments(data: &Path, port: u16) -> Vec<String> {
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        // Data of a local stack need not survive a power cut; a killed server loses nothing by this.
        "fsync=off",
        "full_page_writes=off",
        "max_connections=200",
        "shared_buffers=64MB",
    ];
    let mut arguments = vec!["-D".to_owned(), data.display().to_string(), "-p".to_owned(), port.to_string()];
    arguments.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
    arguments
}

/// Gives the superuser this stack's password.
pub async fn adopt(superuser_url: &str, within: Duration) -> anyhow::Result<()> {
    let own = PgConnectOptions::from_str(superuser_url).context("read the superuser's URL")?;
    let deadline = Instant::now() + within;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        match own.connect().await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == Some(INVALID_PASSWORD) => break,
            // It accepts connections while it still recovers.
            Err(_) if Instant::now() < deadline => {}
            Err(error) => return Err(error).context("connect to Postgres as superuser"),
        }
    }
    let password = superuser_url.split_once("//postgres:").and_then(|(_, rest)| rest.split_once('@'));
    let (password, _) = password.context("find the superuser's password")?;
    let template = own.clone().password(TEMPLATE_PASSWORD);
    let mut conn = template.connect().await.context("connect to the new cluster")?;
    execute(&mut conn, format!("ALTER ROLE postgres PASSWORD '{password}'")).await
}

const INVALID_PASSWORD: &str = "28P01";

fn code(error: &sqlx::Error) -> Option<&str> {
    error
        .as_database_error()?
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .map(sqlx::postgres::PgDatabaseError::code)
}

/// Makes roles and both databases; what exists is brought to the same state.
pub async fn provision(superuser_url: &str, passwords: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let options = PgConnectOptions::from_str(superuser_url).context("read the superuser's URL")?;
    let mut conn = options.connect().await.context("connect to Postgres as superuser")?;
    for role in DATABASE_ROLES.iter().filter(|role| **role != "postgres") {
        let password =
            passwords.get(*role).with_context(|| format!("no password is kept for role {role}"))?;
        ensure_role(&mut conn, role, password).await?;
    }
    for (database, owner, readers) in DATABASES {
        ensure_database(&mut conn, database, owner, readers).await?;
    }
    conn.close().await.context("close the superuser's connection")
}

type Database = (&'static str, &'static str, &'static [&'static str]);

const DATABASES: [Database; 2] = [
    ("state", "dagwright_migrate", &["dagwright_controller", "dagwright_dispatcher", "dagwright_query"]),
    ("data", "dagwright_data_owner", &["dagwright_data_writer", "dagwright_data_reader"]),
];

async fn ensure_role(conn: &mut PgConnection, role: &str, password: &str) -> anyhow::Result<()> {
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
         ALTER ROLE {role} LOGIN PASSWORD '{password}'"
    );
    execute(conn, sql).await.with_context(|| format!("make role {role}"))
}

/// Makes a database that only its owner and the named roles may connect to.
pub async fn ensure_database(
    conn: &mut PgConnection,
    database: &str,
    owner: &str,
    users: &[&str],
) -> anyhow::Result<()> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(database)
        .fetch_one(&mut *conn)
        .await
        .context("list databases")?;
    if !exists {
        execute(conn, format!("CREATE DATABASE {database} OWNER {owner}")).await?;
    }
    execute(conn, format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC")).await?;
    if !users.is_empty() {
        execute(conn, format!("GRANT CONNECT ON DATABASE {database} TO {}", users.join(", "))).await?;
    }
    Ok(())
}

/// Every part of these statements is a constant of ours or a hexadecimal secret.
async fn execute(conn: &mut PgConnection, sql: String) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(|_| ()).context("run a statement as superuser")
}
