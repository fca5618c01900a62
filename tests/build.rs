//! Links the suite with the libtorch that the build found.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_PCRM_TCH_LIBTORCH") {
        println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{folder}");
    }
}
