//! Calls to WeChat go to whom a certificate of the system's authorities names, and to nobody else: the real binary
//! before a front that shows one certificate or another.
//!
//! The certificates in `certificates/` were made for this story and protect nothing.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;
use wechat_sandbox::DEMO_APP_ID;

use crate::{databases::Kind, fleet::Fleet, harness::openid, process::PATIENCE};

const QUICK: &str = "[delivery]\nback_off_initial = \"100ms\"\nback_off_max = \"200ms\"\nmax_attempts = 1000\n";

const TRUSTED: &[u8] = include_bytes!("certificates/trusted.pem");
/// Of an authority that the system does not know: itself.
const UNTRUSTED: &[u8] = include_bytes!("certificates/untrusted.pem");
const OTHER_NAME: &[u8] = include_bytes!("certificates/other_name.pem");
const EXPIRED: &[u8] = include_bytes!("certificates/expired.pem");

/// Speaks TLS in the place of the simulator and hands on what it hears.
struct Front {
    url: String,
    shown: Arc<Mutex<Shown>>,
    /// Connections whose other side took the certificate: only there anything can be heard.
    taken: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Shown {
    acceptor: TlsAcceptor,
    /// Ends the connections on which it was shown.
    over: CancellationToken,
}

impl Shown {
    fn new(certificate: &[u8]) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(certificate).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("certificates/server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocols")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a server's configuration");
        Self { acceptor: Arc::new(config).into(), over: CancellationToken::new() }
    }
}

impl Front {
    async fn before(simulator: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let shown = Arc::new(Mutex::new(Shown::new(TRUSTED)));
        let (taken, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let front = Self { url, shown: shown.clone(), taken: taken.clone(), refused: refused.clone() };
        let simulator = simulator.trim_start_matches("http://").to_owned();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Shown { acceptor, over } = shown.lock().expect("no panic").clone();
                let (taken, refused, simulator) = (taken.clone(), refused.clone(), simulator.clone());
                tokio::spawn(over.run_until_cancelled_owned(async move {
                    let Ok(mut inside) = acceptor.accept(socket).await else {
                        refused.fetch_add(1, Ordering::SeqCst);
                        return;
                    };
                    taken.fetch_add(1, Ordering::SeqCst);
                    let mut outside = TcpStream::connect(simulator).await.expect("the simulator");
                    let _ = copy_bidirectional(&mut inside, &mut outside).await;
                }));
            }
        });
        front
    }

    fn show(&self, certificate: &[u8]) {
        std::mem::replace(&mut *self.shown.lock().expect("no panic"), Shown::new(certificate)).over.cancel();
    }

    /// Waits until so many more have turned away.
    async fn until_refused(&self, more: usize) {
        let wanted = self.refused.load(Ordering::SeqCst) + more;
        let refused = async {
            while self.refused.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("it is tried again");
    }
}

#[rstest]
#[tokio::test]
async fn who_cannot_prove_to_be_wechat_hears_nothing(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut fleet) = Fleet::new(kind, QUICK).await else { return };
    let simulator = fleet.wechat_url().to_owned();
    let front = Front::before(&simulator).await;
    fleet.reconfigure(|toml| toml.replace(&simulator, &front.url));
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certificates/ca.pem");
    let node = fleet.start_after(&format!("export SSL_CERT_FILE='{authority}'")).await;
    // Whom the authority names is spoken to: what follows fails for no other reason.
    let people = fleet.people(node, 1, 3).await;
    assert_eq!(fleet.order_of(&people, 0).await, 1);
    fleet.settle(node).await;
    let mut accepted = 1;
    for (certificate, named) in [(UNTRUSTED, "UnknownIssuer"), (OTHER_NAME, "not valid for"), (EXPIRED, "expired")] {
        front.show(certificate);
        let heard = front.taken.load(Ordering::SeqCst);
        let code = fleet.wechat(Method::POST, "/login-code", Some(json!({ "openid": openid("p0") }))).await;
        let login = format!("/v1/apps/{DEMO_APP_ID}/login");
        let answer = fleet.call(node, Method::POST, &login, Some(json!({ "code": code["code"] }))).await;
        let (status, problem) = answer.expect("an answer");
        assert_eq!((status, &problem["code"]), (502, &json!("wechat_unreachable")), "{problem}");
        // The operator reads why, and from the doctor what to do.
        let logged = async {
            // Lines are gathered for a moment.
            while !fleet.log().contains(named) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let logged = tokio::time::timeout(PATIENCE, logged).await;
        assert!(logged.is_ok(), "{named} is not in the log:\n{}", fleet.log());
        let doctor = fleet.command(&["doctor"]).env("SSL_CERT_FILE", authority).output().await.expect("it runs");
        let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(told.contains(named) && told.contains("certificates"), "{told}");
        if accepted < 3 {
            accepted += fleet.order_of(&people, accepted).await;
            front.until_refused(3).await;
            assert_eq!(fleet.arrived().await, 1);
        }
        assert_eq!(front.taken.load(Ordering::SeqCst), heard, "something could have been heard");
    }
    front.show(TRUSTED);
    fleet.settle(node).await;
    let account = fleet.account(node).await;
    account.balances(accepted);
    assert_eq!((account.of("accepted"), accepted), (3, 3), "{account:?}");
}
