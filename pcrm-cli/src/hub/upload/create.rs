//! The repository and the branch of an upload, created unless they exist.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::Body;
use ureq::http::Response;

use super::repeat::repeated;
use super::{ANSWER, JSON, Target, accept};
use crate::hub::cache::{Kind, Repo};
use crate::hub::client::{Client, encoded};

/// The part of a Hub's message that distinguishes a conflict with another request from an existing
/// repository.
const BUSY: &str = "another conflicting operation is in progress";

/// Creates the repository and the branch unless they exist. A token for a single repository may not be allowed to
/// create it, so a refusal counts only if the repository cannot be read either.
///
/// # Errors
/// Fails if the Hub refuses the token or the names.
pub fn create(client: &Client, target: &Target<'_>) -> Result<()> {
    let (organisation, name) = target.repository.split_once('/').context("expected ORG/NAME")?;
    let mut asked = json!({"name": name, "organization": organisation});
    if target.private {
        asked["private"] = true.into();
    }
    let doing = "creating the repository";
    let made = repeated(doing, || post(client, "api/repos/create", &asked))?;
    if !(matches!(made.status, 401..=403) && exists(client, target)?) {
        accept(target, made, doing, &[409])?;
    }
    if target.revision != "main" {
        let path = format!("api/models/{}/branch/{}", target.repository, encoded(target.revision, b""));
        let made = repeated("creating the branch", || post(client, &path, &json!({})))?;
        accept(target, made, "creating the branch", &[409])?;
    }
    Ok(())
}

/// Returns true if the Hub shows the repository to this token.
fn exists(client: &Client, target: &Target<'_>) -> Result<bool> {
    let repo = Repo { name: target.repository.to_owned(), kind: Kind::Model };
    let shown =
        repeated("looking for the repository", || Ok(client.get(&repo.description_page(), 0)?.response))?;
    Ok(shown.status == 200)
}

/// Posts JSON. A Hub that is busy with another request of the same user is an error, so that the request is
/// repeated.
fn post(client: &Client, path: &str, asked: &Value) -> Result<Response<Body>> {
    let response = client.post(path, JSON, asked.to_string().as_bytes())?;
    if response.status().as_u16() != 409 {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let text = body.into_with_config().limit(ANSWER).read_to_string()?;
    if text.contains(BUSY) {
        bail!("{BUSY}");
    }
    Ok(Response::from_parts(parts, Body::builder().data(text)))
}
