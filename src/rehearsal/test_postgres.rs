//! A private PostgreSQL for tests of the new side.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::world::PgAddress;

/// The target schema, as the migration's plan creates it.
pub(super) const SCHEMA: &str = "
CREATE TABLE books (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    title varchar(255) NOT NULL,
    author varchar(255) NOT NULL,
    description text,
    price numeric(10,2) NOT NULL,
    category varchar(100),
    isbn varchar(20) UNIQUE,
    stock_quantity integer DEFAULT 0,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    search_vector tsvector GENERATED ALWAYS AS (
        to_tsvector('english', title || ' ' || author || ' ' || COALESCE(description, ''))
    ) STORED
);
CREATE TABLE users (
    id uuid PRIMARY KEY, email varchar(255) NOT NULL, name varchar(255), address jsonb, favorites text[],
    created_at timestamptz
);
CREATE TABLE orders (
    id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id), status varchar(50) NOT NULL,
    total numeric(12,2) NOT NULL, shipping jsonb, created_at timestamptz, updated_at timestamptz
);
CREATE TABLE order_items (
    order_id uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE, position integer NOT NULL, book_id uuid,
    title text, quantity integer, unit_price numeric(10,2), PRIMARY KEY (order_id, position)
);
";

/// The same with the columns named as the shipped rehearsal plan names them.
pub(super) const SCHEMA_OF_PLAN: &str = "
ALTER TABLE users ADD COLUMN city varchar(100);
ALTER TABLE order_items DROP COLUMN title;
ALTER TABLE order_items RENAME COLUMN unit_price TO price;
";

/// A server with one database; stopped, and its files removed, on drop.
pub(super) struct Postgres {
    address: PgAddress,
    bin: PathBuf,
    dir: tempfile::TempDir,
    identity: Option<(u32, u32)>,
}

impl Postgres {
    /// Starts one. `None`, said on stderr, when the machine has no PostgreSQL; never when CI asks for it.
    pub(super) fn start() -> Option<Self> {
        let bin = ["15", "16", "17", "18"].map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
        let Some(bin) = bin.into_iter().find(|b| b.join("initdb").exists()) else {
            assert!(std::env::var_os("CUTOVER_TEST_POSTGRES_REQUIRED").is_none(), "no PostgreSQL on this machine");
            eprintln!("skipped: no PostgreSQL under /usr/lib/postgresql");
            return None;
        };
        let identity = unprivileged();
        let dir = tempfile::Builder::new().prefix("cutover-trial-").tempdir().unwrap();
        if let Some((uid, gid)) = identity {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        // The port is free when it is chosen; nothing else here hands out fixed ports.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self {
            address: PgAddress {
                host: "127.0.0.1".into(),
                port,
                user: "app".into(),
                database: "postgres".into(),
                password: None,
            },
            bin,
            dir,
            identity,
        };
        let data = server.data();
        let data = data.to_str().unwrap();
        server.run("initdb", &["-D", data, "-U", "app", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]);
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off -c max_connections=60"
        );
        let log = server.dir.path().join("log");
        server.run("pg_ctl", &["-D", data, "-l", log.to_str().unwrap(), "-o", &options, "-w", "start"]);
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).current_dir(Path::new("/")).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.identity {
            command.uid(uid).gid(gid);
        }
        assert!(command.status().unwrap().success(), "{program}");
    }

    pub(super) fn address(&self) -> PgAddress {
        self.address.clone()
    }

    pub(super) async fn client(&self) -> tokio_postgres::Client {
        let a = &self.address;
        let text = format!("host={} port={} user={} dbname={}", a.host, a.port, a.user, a.database);
        let (client, driver) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(driver);
        client
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data();
        self.run("pg_ctl", &["-D", data.to_str().unwrap(), "-m", "fast", "-w", "stop"]);
    }
}

/// The `postgres` user when we are root, whom PostgreSQL refuses.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|l| l.starts_with("postgres:")).expect("root needs a user `postgres` here");
    let mut fields = line.split(':').skip(2).map(|f| f.parse::<u32>().unwrap_or(65_534));
    Some((fields.next().unwrap(), fields.next().unwrap()))
}
