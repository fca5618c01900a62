//! Signals: SIGTERM and SIGINT stop the server, a second one immediately; SIGHUP reloads.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::app::App;
use super::tls::Tls;
use crate::interrupt::EXIT_CODE;
use crate::progress::say;

/// Returns a future that completes when the server must stop: after a signal, or when the model's thread
/// ended.
///
/// # Errors
/// Fails if signal handlers cannot be installed.
#[cfg(unix)]
pub fn until_stopped(
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    ended: oneshot::Receiver<()>,
) -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let hear = |kind, name: &str| signal(kind).with_context(|| format!("cannot listen for {name}"));
    let mut terminate = hear(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = hear(SignalKind::interrupt(), "SIGINT")?;
    let mut hang_up = hear(SignalKind::hangup(), "SIGHUP")?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            let (app, tls) = (Arc::clone(&app), tls.clone());
            let _ = spawn_blocking(move || reload(&app, tls.as_deref())).await;
        }
    });
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = ended => return,
        }
        say("stopping after the requests in flight are answered (repeat to stop immediately)");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(i32::from(EXIT_CODE));
        });
    })
}

/// Returns a future that completes when the server must stop: after Ctrl-C, or when the model's thread ended.
///
/// # Errors
/// Never fails on this platform.
#[cfg(not(unix))]
pub fn until_stopped(
    _app: Arc<App>,
    _tls: Option<Arc<Tls>>,
    ended: oneshot::Receiver<()>,
) -> Result<impl Future<Output = ()>> {
    Ok(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = ended => return,
        }
        say("stopping after the requests in flight are answered (repeat to stop immediately)");
        tokio::spawn(async move {
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(i32::from(EXIT_CODE));
        });
    })
}

/// Reloads all models and the certificate; anything that does not load is unchanged.
#[cfg(unix)]
fn reload(app: &App, tls: Option<&Tls>) {
    for model in app.models.all() {
        match app.models.reload(&model.name) {
            Ok(new) => {
                app.metrics.reload(&new.name, "success");
                say(&format!("reloaded {} ({})", new.name, &new.sha[..12.min(new.sha.len())]));
            }
            Err(error) => {
                app.metrics.reload(&model.name, "failure");
                tracing::error!("{error:#}");
            }
        }
    }
    if let Some(Err(error)) = tls.map(Tls::reload) {
        tracing::error!("the certificate is unchanged: {error:#}");
    }
}
