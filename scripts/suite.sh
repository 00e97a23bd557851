# Programs of another Debian suite, unpacked into a folder of their own; sourced, not run. Nothing is installed: apt works on
# lists of its own, and dpkg-deb only unpacks.

# apt with a state of its own: the system's suites and packages are left as they are.
apt_of_suite() {
    local home=$1 command=$2
    shift 2
    "$command" -o Dir::Etc="$home/apt/etc" -o Dir::State="$home/apt/state" -o Dir::Cache="$home/apt/cache" \
        -o Dir::State::status="$home/apt/state/status" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

# fetch_from_suite SUITE HOME PACKAGE…: unpacks the packages into HOME/root.
fetch_from_suite() {
    local suite=$1 home=$2 deb
    shift 2
    have apt-get && have dpkg-deb || die "this needs apt-get and dpkg-deb"
    rm -rf "$home"
    mkdir -p "$home"/apt/etc/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} "$home/apt/state/lists/partial" \
        "$home/apt/cache/archives/partial" "$home/debs" "$home/root"
    touch "$home/apt/state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
        >"$home/apt/etc/sources.list"
    apt_of_suite "$home" apt-get update -qq
    (cd "$home/debs" && apt_of_suite "$home" apt-get download -qq "$@")
    for deb in "$home"/debs/*.deb; do dpkg-deb --extract "$deb" "$home/root"; done
    rm -rf "$home/apt" "$home/debs"
}

# write_program HOME PATH: makes HOME/NAME, which runs the program at this path of the suite. The system's C library may be
# too old for it, so it runs under the loader of its own. The process is the program itself: exec keeps its number.
write_program() {
    local home=$1 path=$2 loader library root=$1/root
    loader=$(find "$root" -name 'ld-linux-*.so.*' -o -name 'ld64.so.*' | head -n 1)
    library=$(dirname "$(find "$root" -name 'libc.so.6' | head -n 1)")
    cat >"$home/$(basename "$path")" <<END
#!/bin/sh
exec "$loader" --library-path "$library:$root/lib/$(basename "$library")" "$root/$path" "\$@"
END
    chmod -R a+rX "$home"
    chmod a+x "$home/$(basename "$path")"
}
