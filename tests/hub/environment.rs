//! The environment variables of `huggingface_hub`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::{SCORE, TOKEN, check_refusal, command, done, hub_of};
use crate::binary::{World, stderr};

/// Protects: a cache that Python's tools fill is found where they put it, whatever variable names it.
#[test]
fn the_cache_is_where_python_has_it() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    let disk = world.path("disk").display().to_string();
    for (variables, folder) in [
        (&[("HF_HOME", "$DISK/hf")][..], "disk/hf/hub"),
        (&[("HF_HOME", "~/mine")], "mine/hub"),
        (&[("HF_HOME", ""), ("XDG_CACHE_HOME", "${DISK}/xdg")], "disk/xdg/huggingface/hub"),
        (&[("HUGGINGFACE_HUB_CACHE", "~/old")], "old"),
        (&[("HUGGINGFACE_HUB_CACHE", "~/older"), ("HF_HUB_CACHE", "~/new")], "new"),
    ] {
        let mut score = command(&world, &hub.endpoint, "score --model base --data acme/pairs:test")?;
        score.env("DISK", &disk).envs(variables.iter().copied());
        done(&score.output()?)?;
        let found = world.path(&format!("{folder}/datasets--acme--pairs/refs/main"));
        ensure!(found.exists(), "{variables:?}: {folder} has no data");
    }
    Ok(())
}

/// Protects: the token may come from the older variable or from a file in another place; TRANSFORMERS_OFFLINE forbids
/// requests.
#[test]
fn older_variables_count() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    world.write("mine", &format!("{TOKEN}\n"))?;
    let score = "score --model acme/private --data test.jsonl";
    for (variable, value) in [("HUGGING_FACE_HUB_TOKEN", TOKEN), ("HF_TOKEN_PATH", "~/mine")] {
        check_refusal(command(&world, &hub.endpoint, score)?, &["401"])?;
        done(&command(&world, &hub.endpoint, score)?.env(variable, value).output()?)?;
        std::fs::remove_dir_all(world.path("hf"))?;
    }
    let mut offline = command(&world, &hub.endpoint, score)?;
    offline.env("HUGGING_FACE_HUB_TOKEN", TOKEN).env("TRANSFORMERS_OFFLINE", "1");
    hub.requests();
    check_refusal(offline, &["TRANSFORMERS_OFFLINE is set", "hf/hub"])?;
    ensure!(hub.requests().is_empty(), "requests were sent while offline");
    let mut online = command(&world, &hub.endpoint, score)?;
    online.env("HUGGING_FACE_HUB_TOKEN", TOKEN).env("TRANSFORMERS_OFFLINE", "1").env("HF_HUB_OFFLINE", "0");
    done(&online.output()?)
}

/// Starts a proxy that connects every client to `place`, whatever host it asks for. Returns its address and the
/// requested hosts.
fn proxy_to(place: String) -> Result<(String, Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (told, hosts) = channel();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (place, told) = (place.clone(), told.clone());
            // A client that disconnects is not an error of the proxy.
            thread::spawn(move || -> Result<()> {
                let mut lines = BufReader::new(client.try_clone()?).lines();
                let first = lines.next().context("a request")??;
                while !lines.next().context("a blank line")??.is_empty() {}
                told.send(first.split(' ').nth(1).context("a host")?.to_owned())?;
                let mut server = TcpStream::connect(place)?;
                let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
                (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::io::copy(&mut server, &mut &client)?;
                Ok(client.shutdown(std::net::Shutdown::Both)?)
            });
        }
    });
    Ok((address, hosts))
}

/// Protects: requests go through the proxy of their address's scheme, never to this machine, and the error of one that
/// does not answer names it without its password.
#[test]
fn proxies_are_chosen_by_scheme() -> Result<()> {
    let world = World::new()?;
    let hub = hub_of(&world)?;
    // No server listens at this address.
    let nowhere = "http://me:secret@127.0.0.1:1";
    let mut score = command(&world, &hub.endpoint, &format!("{SCORE} direct.jsonl"))?;
    for variable in ["https_proxy", "http_proxy", "all_proxy"] {
        score.env(variable, nowhere);
    }
    done(&score.output()?)?;

    let (proxy, hosts) = proxy_to(hub.endpoint.trim_start_matches("http://").to_owned())?;
    std::fs::remove_dir_all(world.path("hf"))?;
    let mut score = command(&world, "http://hub.test", &format!("{SCORE} through.jsonl"))?;
    score.env("HTTP_PROXY", &proxy).env("https_proxy", nowhere).env("all_proxy", nowhere);
    done(&score.output()?)?;
    ensure!(world.read("through.jsonl")? == world.read("direct.jsonl")?, "the proxy changes the scores");
    let hosts: Vec<String> = hosts.try_iter().collect();
    ensure!(!hosts.is_empty() && hosts.iter().all(|host| host == "hub.test:80"), "{hosts:?}");

    std::fs::remove_dir_all(world.path("hf"))?;
    let mut score = command(&world, "http://hub.test", &format!("{SCORE} refused.jsonl"))?;
    score.env("http_proxy", nowhere).env("HTTP_PROXY", &proxy);
    let output = score.output()?;
    let said = stderr(&output);
    ensure!(said.contains("through the proxy http://127.0.0.1:1 (http_proxy)"), "{said}");
    ensure!(!output.status.success() && !said.contains("secret"), "{said}");
    let mut score = command(&world, "http://hub.test", &format!("{SCORE} refused.jsonl"))?;
    score.env("all_proxy", "ftp://proxy");
    check_refusal(score, &["all_proxy is \"ftp://proxy\"; expected the address of a proxy"])
}
