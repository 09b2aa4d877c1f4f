//! Lets the binaries of this package find `libduckdb.so` without `LD_LIBRARY_PATH`: the engine child runs with a cleared
//! environment, so the path has to be in the executable itself.

fn main() {
    println!("cargo:rerun-if-env-changed=DUCKDB_LIB_DIR");
    // An installed image keeps the library beside the binary's directory.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
    if let Ok(dir) = std::env::var("DUCKDB_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
    }
}
