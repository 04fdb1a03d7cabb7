//! Each page is a documentation test: its Rust blocks compile, and those that are not marked `no_run` run.

#![cfg(doctest)]

macro_rules! pages {
    ($($name:ident: $path:literal,)+) => {
        $(
            #[doc = include_str!(concat!("../../../", $path))]
            mod $name {}
        )+
    };
}

pages! {
    readme: "README.md",
    adding_a_layer: "docs/adding-a-layer.md",
    coming_from: "docs/coming-from.md",
    continuous: "docs/continuous.md",
    faq: "docs/faq.md",
    getting_started: "docs/getting-started.md",
    interop: "docs/interop.md",
    own_transform: "docs/own-transform.md",
    training_loop: "docs/training-loop.md",
}
