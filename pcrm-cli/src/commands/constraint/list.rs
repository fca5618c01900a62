//! `pcrm constraint list`: lists the kinds with formulas and defaults.

use anstyle::Style;
use anyhow::Result;
use clap::{Args, ColorChoice};
use pcrm_core::constraint;
use pcrm_core::registry::{self, ConstraintPlugin};
use serde_json::{Value, json};

use crate::page::{Page, padded};
use crate::report::{is_setting, setting};
use crate::terminal;

/// Options of `pcrm constraint list`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Use colours; auto: on a terminal unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

const EXAMPLES: &str = "\
Examples:
  pcrm constraint list
  pcrm constraint list --json | jq '.[].kind'
  pcrm constraint explain length_ratio";

/// A kind of constraint, selectable by name.
struct Kind {
    plugin: &'static ConstraintPlugin,
    /// Its formula and its tagged form with all defaults, or the reason why the name alone is not enough.
    built: Result<(Option<&'static str>, Value), String>,
}

impl Kind {
    fn of(plugin: &'static ConstraintPlugin) -> Self {
        let built = constraint::parse(plugin.name)
            .and_then(|built| Ok((built.formula(), built.to_tagged()?)))
            .map_err(|error| error.to_string());
        Self { plugin, built }
    }

    fn json(&self) -> Value {
        let mut row = json!({"kind": self.plugin.name, "about": self.plugin.about});
        match &self.built {
            Ok((formula, defaults)) => {
                row["formula"] = json!(formula);
                row["defaults"] = defaults.clone();
            }
            Err(needs) => row["needs"] = json!(needs),
        }
        row
    }
}

/// Lists the kinds.
///
/// # Errors
/// Fails if standard output cannot be written.
pub fn run(args: &ListArgs) -> Result<()> {
    let kinds: Vec<Kind> = registry::all::<ConstraintPlugin>().into_iter().map(Kind::of).collect();
    if args.json {
        let all: Vec<Value> = kinds.iter().map(Kind::json).collect();
        return terminal::result(&(serde_json::to_string_pretty(&all)? + "\n"));
    }
    let mut page = Page::on(&terminal::output(), args.color);
    let indent = kinds.iter().map(|kind| kind.plugin.name.len() + 2).max().unwrap_or(0);
    for kind in &kinds {
        let name = page.paint.styled(&padded(kind.plugin.name, indent), Style::new().bold());
        page.labelled(&name, indent, kind.plugin.about);
        match &kind.built {
            Ok((formula, defaults)) => {
                page.labelled("", indent, formula.unwrap_or_default());
                let fields = defaults.as_object().into_iter().flatten();
                let fields = fields.filter(|(name, value)| is_setting(name.as_str(), value));
                let defaults: Vec<String> =
                    fields.map(|(name, value)| format!("{name} {}", setting(value))).collect();
                page.labelled("", indent, &defaults.join(", "));
            }
            Err(needs) => page.labelled("", indent, needs),
        }
    }
    terminal::page(&page)
}
