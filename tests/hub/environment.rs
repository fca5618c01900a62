//! The environment variables of `huggingface_hub`.

use anyhow::{Result, ensure};

use super::{TOKEN, check_refusal, command, done, hub_of};
use crate::binary::World;

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

/// Protects: the older variable, and a file of another place, give the token; TRANSFORMERS_OFFLINE forbids requests.
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
