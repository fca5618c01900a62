//! Sets the search path of `pcrm-tch` for libtorch: the folder used by the build, then a folder `libtorch` beside
//! the binary.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_PCRM_TCH_LIBTORCH") {
        println!("cargo::rustc-link-arg-bin=pcrm-tch=-Wl,-rpath,{folder}:$ORIGIN/libtorch/torch/lib");
    }
}
