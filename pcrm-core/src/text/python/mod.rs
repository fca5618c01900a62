//! Python and jinja2 features of chat templates: numbers, JSON, dates, and filters that minijinja lacks.

mod dates;
mod filters;
mod json;
mod numbers;

use minijinja::Environment;

pub(super) use self::numbers::{print, value as float};

/// Adds to an environment the functions that jinja2's environment has in transformers.
pub(super) fn install(env: &mut Environment<'static>) {
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", json::tojson);
    env.add_filter("string", numbers::string);
    env.add_filter("join", numbers::join);
    env.add_filter("pprint", numbers::pprint);
    env.add_test("number", numbers::is_number);
    env.add_test("float", numbers::is_float);
    env.add_filter("attr", filters::attr);
    env.add_filter("truncate", filters::truncate);
    env.add_filter("striptags", minijinja_contrib::filters::striptags);
    env.add_filter("filesizeformat", filters::filesizeformat);
    env.add_filter("urlencode", filters::urlencode);
    env.add_filter("wordcount", filters::wordcount);
    env.add_filter("center", filters::center);
    env.add_function("cycler", filters::cycler);
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    env.add_function("strftime_now", |format: &str| dates::strftime_now(format));
}
