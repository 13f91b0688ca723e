//! Encryption: which authorities are trusted, and a clear reason when a certificate is not.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::ports::{ErrorKind, PortError, PortResult};

fn wrong(what: impl Into<String>) -> PortError {
    PortError::new(ErrorKind::Invalid, "set up TLS for", "", what)
}

fn config(verifier: Arc<dyn ServerCertVerifier>, provider: Arc<CryptoProvider>) -> PortResult<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Encrypted; any server is accepted, as with `sslmode=require`.
pub(super) fn unverified() -> PortResult<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    config(Arc::new(Unverified(Arc::clone(&provider))), provider)
}

/// Encrypted, and the server's certificate and name are verified. `ca_file` without a word is the system's store.
///
/// # Errors
/// `Invalid` for a file that cannot be read, holds no certificate, or holds one in another form.
pub(super) fn verified(ca_file: Option<&Path>, host: &str) -> PortResult<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for authority in authorities(file)? {
                roots.add(authority).map_err(|e| {
                    wrong(format!("{} holds a certificate that cannot be used: {e}", file.display()))
                        .advise("point ca_file at a PEM file of certificate authorities")
                })?;
            }
        }
        None => {
            for authority in rustls_native_certs::load_native_certs().certs {
                // A system store may hold certificates that rustls does not take; the others count.
                let _ = roots.add(authority);
            }
        }
    }
    if roots.is_empty() {
        return Err(wrong("this system's store has no certificate authorities")
            .advise("install ca-certificates, or point ca_file at the PEM file of your server's authority"));
    }
    let believed = match ca_file {
        Some(file) => format!("{} ({} certificates)", file.display(), roots.len()),
        None => format!("this system's store ({} certificates)", roots.len()),
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| wrong(e.to_string()))?;
    config(Arc::new(Verified { inner, believed, host: host.to_owned() }), provider)
}

fn authorities(file: &Path) -> PortResult<Vec<CertificateDer<'static>>> {
    let advice = "point ca_file at a PEM file of certificate authorities (RDS: global-bundle.pem)";
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|e| wrong(format!("{name}: {e}")).advise(advice))?;
    if bytes.trim_ascii().is_empty() {
        return Err(wrong(format!("{name} is empty")).advise(advice));
    }
    if Certificate::from_der(&bytes).is_ok() {
        let convert =
            format!("convert it: openssl x509 -inform der -in {name} -out ca.pem, and name ca.pem as ca_file");
        return Err(wrong(format!("{name} is a certificate in DER form, not PEM")).advise(convert));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| wrong(format!("{name} is no PEM file: {e}")).advise(advice))?;
    if found.is_empty() {
        let what = if bytes.windows(11).any(|w| w == b"PRIVATE KEY") { ", but a private key" } else { "" };
        return Err(wrong(format!("{name} holds no certificate{what} (no BEGIN CERTIFICATE line)")).advise(advice));
    }
    Ok(found)
}

/// Why the server's certificate was not accepted: what was presented, and what to do.
#[derive(Debug)]
pub(super) struct NotBelieved {
    /// What was presented and what is wrong with it.
    pub came_back: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for NotBelieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.came_back)
    }
}

impl std::error::Error for NotBelieved {}

/// The reason inside a driver's error, if that is what it is.
pub(super) fn not_believed(error: &tokio_postgres::Error) -> Option<&NotBelieved> {
    let io = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    match io.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.downcast_ref(),
        _ => None,
    }
}

/// Verifies as usual and says more when it refuses.
#[derive(Debug)]
struct Verified {
    inner: Arc<WebPkiServerVerifier>,
    /// Which authorities are trusted, in words.
    believed: String,
    host: String,
}

impl Verified {
    fn why(&self, error: &Error, certificate: &CertificateDer<'_>) -> NotBelieved {
        let Ok(certificate) = Certificate::from_der(certificate) else {
            return NotBelieved {
                came_back: format!("the server presented a certificate that cannot be read: {error}"),
                advice: "have the server's certificate issued anew (X.509 version 3)".into(),
            };
        };
        let presented = Presented::of(&certificate);
        let (host, believed) = (&self.host, &self.believed);
        let names = presented.names.join(", ");
        let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
        let wanted = format!("subjectAltName={kind}:{host}");
        let (wrong, advice) = match error {
            Error::InvalidCertificate(e) => match e {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    if presented.names.is_empty() {
                        let wrong =
                            "has only a common name: names are looked for among the alternative names, and it has none";
                        (wrong.to_owned(), format!("have it issued anew with {wanted}"))
                    } else {
                        let wrong = format!("is for {names}, not for {host}");
                        (wrong, format!("write one of these names as host, or have it issued anew with {wanted}"))
                    }
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                    format!("ended at {}; it is {} here", presented.until, Timestamp::now().strftime("%FT%TZ")),
                    "have it renewed at the server, then reload the server; or correct this machine's clock".to_owned(),
                ),
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                    format!("begins at {}; it is {} here", presented.from, Timestamp::now().strftime("%FT%TZ")),
                    "correct this machine's clock".to_owned(),
                ),
                // Which of the two is found first is the library's affair.
                _ if presented.own => {
                    let wrong = if presented.authority {
                        "is signed by itself: an authority's own certificate, which is none of a server".to_owned()
                    } else {
                        format!("is signed by itself, and {believed} does not hold it")
                    };
                    let advice = format!(
                        "have an authority of yours issue one with {wanted} and basicConstraints=CA:FALSE, and point \
                         ca_file at that authority"
                    );
                    (wrong, advice)
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => (
                    format!("was issued by {}, which is not in {believed}", presented.issuer),
                    "point ca_file at the PEM file of that authority (RDS: global-bundle.pem); the server must send \
                     certificates in between"
                        .to_owned(),
                ),
                other => (format!("is refused: {other:?}"), format!("have it issued anew with {wanted}")),
            },
            other => (format!("is refused: {other}"), format!("have it issued anew with {wanted}")),
        };
        NotBelieved {
            came_back: format!("the server's certificate ({}) {wrong}", presented.subject),
            advice: format!("{advice}; sslmode = \"require\" encrypts without knowing who answers"),
        }
    }
}

/// What a certificate says of itself.
struct Presented {
    subject: String,
    issuer: String,
    /// Whether it was signed by itself.
    own: bool,
    /// Whether it may sign others.
    authority: bool,
    names: Vec<String>,
    from: String,
    until: String,
}

impl Presented {
    fn of(certificate: &Certificate) -> Self {
        let body = &certificate.tbs_certificate;
        let (_, names) = body.get::<SubjectAltName>().ok().flatten().unwrap_or((false, SubjectAltName(Vec::new())));
        let names = names.0.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            GeneralName::IpAddress(bytes) => Some(address(bytes.as_bytes())),
            _ => None,
        });
        let constraints = body.get::<x509_cert::ext::pkix::BasicConstraints>().ok().flatten();
        let same = |a: &x509_cert::name::Name, b: &x509_cert::name::Name| {
            a.to_der().ok().is_some_and(|a| b.to_der().ok() == Some(a))
        };
        Self {
            subject: body.subject.to_string(),
            issuer: body.issuer.to_string(),
            own: same(&body.subject, &body.issuer),
            authority: constraints.is_some_and(|(_, c)| c.ca),
            names: names.collect(),
            from: body.validity.not_before.to_string(),
            until: body.validity.not_after.to_string(),
        }
    }
}

fn address(bytes: &[u8]) -> String {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(four), _) => std::net::IpAddr::from(four).to_string(),
        (_, Ok(sixteen)) => std::net::IpAddr::from(sixteen).to_string(),
        _ => "an address of another kind".to_owned(),
    }
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(certificate, between, name, ocsp, now).map_err(|e| {
            let why = OtherError(Arc::new(self.why(&e, certificate)));
            Error::InvalidCertificate(CertificateError::Other(why))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any certificate. Signatures are checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
