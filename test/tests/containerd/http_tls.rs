//! Calls of a service to others by TLS: whom it trusts, and whom it does not.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use skiff_test::http::Network;
use skiff_test::node::{Node, Version};
use skiff_test::pki::Authority;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::http::served;

skiff_test::cases!(
    an_authority_that_the_pod_mounts,
    an_authority_that_nobody_knows
);

const PORT: u16 = 8443;

/// A server in the container's network, whose threads end with the process: it answers every request of a connection.
/// Counts connections that were secured.
fn serve(network: &Network, authority: &Authority) -> Result<Arc<AtomicUsize>> {
    authority.server("service", &["DNS:localhost"])?;
    let certificates = CertificateDer::pem_file_iter(authority.path("service", "crt"))?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            certificates.collect::<Result<Vec<_>, _>>()?,
            PrivateKeyDer::from_pem_file(authority.path("service", "key"))?,
        )?;
    let config = Arc::new(config);
    let listener = network.inside(|| Ok(TcpListener::bind(("127.0.0.1", PORT))?))?;
    let secured = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&secured);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, count) = (Arc::clone(&config), Arc::clone(&count));
            thread::spawn(move || -> Result<()> {
                let connection = ServerConnection::new(config)?;
                let mut stream = BufReader::new(StreamOwned::new(connection, stream));
                for request in 0.. {
                    loop {
                        let mut line = String::new();
                        // Whoever does not trust it says so here.
                        ensure!(stream.read_line(&mut line)? > 0, "it was closed");
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    if request == 0 {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsecret\n";
                    stream.get_mut().write_all(answer)?;
                    stream.get_mut().flush()?;
                }
                Ok(())
            });
        }
    });
    Ok(secured)
}

fn an_authority_that_the_pod_mounts() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let folder = node.directory().join("tmp/authority");
    let authority = Authority::new(folder.clone())?;
    let mounted = node.directory().join("tmp/trusted");
    fs::create_dir_all(&mounted)?;
    fs::copy(authority.certificate(), mounted.join("ca.pem"))?;
    let mount = format!(
        "type=bind,src={},dst=/trusted,options=rbind:ro",
        mounted.display()
    );
    let with = [
        "--cpus",
        "1",
        "--mount",
        &mount,
        "--env",
        "SSL_CERT_FILE=/trusted/ca.pem",
    ];
    let (task, network) = served(&node, "", &with)?;
    let secured = serve(&network, &authority)?;
    for _ in 0..5 {
        let answer = network.get("/fetch?https://localhost:8443/")?;
        assert_eq!((answer.status, answer.text().as_str()), (200, "secret\n"));
    }
    assert_eq!(
        secured.load(Ordering::Relaxed),
        1,
        "connections are not used again"
    );
    // The certificate is another name's.
    let answer = network.get("/fetch?https://127.0.0.1:8443/")?;
    ensure!(
        answer.status == 502 && answer.text().contains("Certificate"),
        "{}",
        answer.text()
    );
    // No TLS at all.
    let answer = network.get("/fetch?https://localhost:8080/")?;
    assert_eq!(answer.status, 502, "{}", answer.text());
    task.remove()?;
    fs::remove_dir_all(&folder)?;
    Ok(fs::remove_dir_all(&mounted)?)
}

fn an_authority_that_nobody_knows() -> Result<()> {
    let node = Node::start(Version::V2_4)?;
    let folder = node.directory().join("tmp/authority");
    let authority = Authority::new(folder.clone())?;
    let (task, network) = served(&node, "", &[])?;
    let secured = serve(&network, &authority)?;
    let answer = network.get("/fetch?https://localhost:8443/")?;
    ensure!(
        answer.status == 502 && answer.text().contains("Certificate"),
        "{}",
        answer.text()
    );
    assert_eq!(secured.load(Ordering::Relaxed), 0);
    task.remove()?;
    // A file that is not there is told where somebody asks.
    let (task, network) = served(&node, "", &["--env", "SSL_CERT_FILE=/nowhere.pem"])?;
    let _secured = serve(&network, &authority)?;
    let answer = network.get("/fetch?https://localhost:8443/")?;
    ensure!(
        answer.status == 502 && answer.text().contains("SSL_CERT_FILE"),
        "{}",
        answer.text()
    );
    task.remove()?;
    Ok(fs::remove_dir_all(&folder)?)
}
