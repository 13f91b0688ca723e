//! Encryption against a real server, with certificates as people have them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::neighbours::{own_server, until};
use crate::adapters::postgres::{PgSettings, PgTarget, SslMode};
use crate::ports::{ErrorKind, PortError};
use crate::private::postgres::PrivatePostgres;

fn openssl(dir: &Path, args: &str) {
    let ran = std::process::Command::new("openssl").args(args.split(' ')).current_dir(dir).output().unwrap();
    assert!(ran.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&ran.stderr));
}

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// A certificate signed by `ca`, with these extensions, that begins and ends at these moments.
fn issue(dir: &Path, name: &str, extensions: &str, from: &str, until: &str) {
    std::fs::write(dir.join("ext"), extensions).unwrap();
    std::fs::write(dir.join("index"), "").unwrap();
    std::fs::write(
        dir.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=index\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\n\
         commonName=supplied\n",
    )
    .unwrap();
    openssl(dir, &format!("req {EC} -keyout {name}.key -out {name}.csr -subj /CN=db.shop.test"));
    openssl(
        dir,
        &format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.crt \
             -extfile ext -startdate {from} -enddate {until}"
        ),
    );
}

/// The server presents this certificate to whoever connects from now on.
async fn present(server: &PrivatePostgres, dir: &Path, name: &str) {
    let data = server.directory().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    let sql = super::connect(&server.url()).await;
    let to = |end: &str| format!("{name}-server.{end}");
    for end in ["key", "crt"] {
        let file = data.join(to(end));
        std::fs::copy(dir.join(format!("{name}.{end}")), &file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    for set in
        [format!("ssl_cert_file = '{}'", to("crt")), format!("ssl_key_file = '{}'", to("key")), "ssl = on".into()]
    {
        sql.batch_execute(&format!("ALTER SYSTEM SET {set}")).await.unwrap();
    }
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // A session uses the new files after the postmaster has read them.
    let heard = format!("current_setting('ssl_cert_file') = '{}' AND current_setting('ssl') = 'on'", to("crt"));
    until(&sql, &heard).await;
}

#[tokio::test]
async fn encryption_is_required_and_verified_and_what_is_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    openssl(dir, &format!("req -x509 {EC} -keyout ca.key -out ca.pem -subj /CN=shop-authority -days 2"));
    openssl(dir, &format!("req -x509 {EC} -keyout o.key -out other.pem -subj /CN=other -days 2"));
    openssl(dir, "x509 -in ca.pem -outform der -out ca.der");
    std::fs::write(dir.join("empty.pem"), "\n").unwrap();
    let year = "20260101000000Z 20990101000000Z";
    let (from, until) = year.split_once(' ').unwrap();
    issue(dir, "good", "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE", from, until);
    issue(dir, "bare", "basicConstraints=CA:FALSE", from, until);
    issue(
        dir,
        "ended",
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE",
        "20200101000000Z",
        "20210101000000Z",
    );
    issue(dir, "future", "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE", "20980101000000Z", until);
    // As the server's own manual makes one.
    openssl(dir, &format!("req -x509 {EC} -keyout self.key -out self.crt -subj /CN=localhost -days 2"));

    let server = own_server().await;
    let settings = |host: &str, sslmode, ca: Option<&str>| PgSettings {
        host: host.into(),
        port: server.port,
        database: server.database.clone(),
        user: server.user.clone(),
        password: Some(server.password.clone()),
        password_source: None,
        sslmode,
        ca_file: ca.map(|f| dir.join(f)),
        pool: 2,
    };
    let refused = |host: &'static str, ca: Option<&'static str>| {
        let target = PgTarget::new(&settings(host, SslMode::VerifyFull, ca), super::PLAN).unwrap();
        async move { target.version().await.unwrap_err() }
    };
    let says = |error: &PortError, kind, came_back: &[&str], advice: &str| {
        assert_eq!(error.kind, kind, "{error}");
        for word in came_back {
            assert!(error.came_back.contains(word), "{word}: {error}");
        }
        assert!(error.advice.contains(advice), "{advice}: {error}");
    };
    let error = refused("localhost", Some("ca.pem")).await;
    says(&error, ErrorKind::Denied, &["does not speak TLS"], "sslmode");

    present(&server, dir, "good").await;
    // `require` does not verify: neither the name nor the authority matters.
    let required = PgTarget::new(&settings("127.0.0.1", SslMode::Require, None), super::PLAN).unwrap();
    required.version().await.unwrap();
    let sql = super::connect(&server.url()).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl WHERE ssl";
    assert_eq!(sql.query_one(encrypted, &[]).await.unwrap().get::<_, i64>(0), 1);
    PgTarget::new(&settings("localhost", SslMode::VerifyFull, Some("ca.pem")), super::PLAN)
        .unwrap()
        .version()
        .await
        .unwrap();

    let error = refused("127.0.0.1", Some("ca.pem")).await;
    let wanted = ["CN=db.shop.test", "is for localhost, not for 127.0.0.1"];
    says(&error, ErrorKind::Denied, &wanted, "subjectAltName=IP:127.0.0.1");
    let error = refused("localhost", Some("other.pem")).await;
    says(&error, ErrorKind::Denied, &["issued by CN=shop-authority", "other.pem"], "ca_file");

    for (name, came_back, advice) in [
        ("bare", ["has only a common name", "CN=db.shop.test"], "subjectAltName=DNS:localhost"),
        ("ended", ["ended at 2021-01-01", "here"], "renewed"),
        ("future", ["begins at 2098-01-01", "here"], "clock"),
        ("self", ["signed by itself", "CN=localhost"], "ca_file"),
    ] {
        present(&server, dir, name).await;
        let error = refused("localhost", Some("ca.pem")).await;
        says(&error, ErrorKind::Denied, &came_back, advice);
    }
    // Accepted by its name, it is still an authority's certificate and none of a server.
    let error = refused("localhost", Some("self.crt")).await;
    says(&error, ErrorKind::Denied, &["authority's own"], "basicConstraints=CA:FALSE");

    for (file, came_back, advice) in [
        ("ca.der", "in DER form", "openssl x509 -inform der"),
        ("empty.pem", "is empty", "PEM file"),
        ("ca.key", "holds no certificate, but a private key", "PEM file"),
        ("ext", "holds no certificate", "PEM file"),
        ("nowhere.pem", "nowhere.pem", "PEM file"),
    ] {
        let error = PgTarget::new(&settings("localhost", SslMode::VerifyFull, Some(file)), super::PLAN).err().unwrap();
        says(&error, ErrorKind::Invalid, &[came_back, file], advice);
    }
}
