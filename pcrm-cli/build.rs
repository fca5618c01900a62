//! The binary finds libtorch, if it uses it, where the build found it or else in a folder `libtorch` beside itself.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_PCRM_TCH_LIBTORCH") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}:$ORIGIN/libtorch/torch/lib");
    }
}
