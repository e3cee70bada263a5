"""Files: includes, globs, loops, what can't be read."""

from __future__ import annotations

from pathlib import Path

from mta.config.load import load, load_text


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_includes_are_read_where_they_stand_also_inside_blocks(tmp_path: Path) -> None:
    write(tmp_path / "limits.conf", "max-smtp-out 5\nbounce-after 1d\n")
    main = write(tmp_path / "config", "<domain a.b>\ninclude limits.conf\nmax-smtp-out 6\n</domain>\n")

    loaded = load(main)

    assert loaded.problems == ()
    assert loaded.snapshot is not None
    found = loaded.snapshot.effective("a.b", "{default}")
    assert found.integer("max-smtp-out") == 6
    origin = found.origin("bounce-after")
    assert origin is not None
    assert (origin.file, origin.line, origin.block) == (tmp_path / "limits.conf", 2, "domain a.b")
    assert loaded.snapshot.files == (main, tmp_path / "limits.conf")


def test_globs_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "d" / "2.conf", "total-max-smtp-out 2\n")
    write(tmp_path / "d" / "1.conf", "total-max-smtp-out 1\n")
    write(tmp_path / "d" / "3.conf.off", "nonsense\n")

    loaded = load(write(tmp_path / "config", f"include {tmp_path}/d/*.conf\n"))

    assert loaded.snapshot is not None
    assert loaded.snapshot.top.integer("total-max-smtp-out") == 2


def test_an_include_that_is_not_there_is_an_error_at_its_line(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "config", "\ninclude none.conf\n"))

    assert loaded.snapshot is None
    assert (
        str(loaded.problems[0])
        == f"{tmp_path}/config:2: error: cannot read {tmp_path}/none.conf: no such file"
    )


def test_a_glob_without_files_is_only_a_warning(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "config", "include none/*.conf\n"))

    assert loaded.snapshot is not None
    assert len(loaded.problems) == 1


def test_loops_of_includes_end(tmp_path: Path) -> None:
    write(tmp_path / "other", "include config\n")
    loaded = load(write(tmp_path / "config", "include other\n"))

    assert loaded.snapshot is None
    assert "includes itself" in loaded.problems[0].text
    assert loaded.problems[0].file == tmp_path / "other"


def test_errors_in_an_included_file_name_that_file(tmp_path: Path) -> None:
    write(tmp_path / "other", "\n\nspol /x\n")
    loaded = load(write(tmp_path / "config", "include other\n"))

    assert (loaded.problems[0].file, loaded.problems[0].line) == (tmp_path / "other", 3)
    assert loaded.problems[0].hint == "did you mean spool?"


def test_a_block_can_not_reach_over_the_end_of_a_file(tmp_path: Path) -> None:
    write(tmp_path / "other", "<domain x.y>\n")
    loaded = load(write(tmp_path / "config", "include other\n</domain>\n"))

    assert [found.text for found in loaded.problems] == [
        "</domain> closes nothing",
        "<domain> is never closed",
    ]


def test_a_main_file_that_is_not_there_is_an_error_too(tmp_path: Path) -> None:
    loaded = load(tmp_path / "config")

    assert loaded.snapshot is None
    assert "no such file" in loaded.problems[0].text


def test_relative_paths_are_seen_from_the_main_file(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "config", "spool spool\n<acct-file log/acct.csv>\n</acct-file>\n"))

    assert loaded.snapshot is not None
    assert loaded.snapshot.spools[0].path == tmp_path / "spool"
    assert loaded.snapshot.acct_files[0].target == str(tmp_path / "log" / "acct.csv")


def test_a_dkim_key_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "k.pem", "x")
    loaded = load(write(tmp_path / "config", "domain-key a,b.c,k.pem\ndomain-key a,b.d,none.pem\n"))

    assert [found.line for found in loaded.errors] == [2]
    assert "none.pem: no such file" in loaded.errors[0].text


def test_latin_1_comments_are_forgiven_with_a_warning(tmp_path: Path) -> None:
    main = tmp_path / "config"
    main.write_bytes(b"spool /a\n# caf\xe9\n")
    loaded = load(main)

    assert loaded.snapshot is not None
    assert [(found.line, found.text) for found in loaded.problems] == [
        (2, "the file is not UTF-8; it is read as Latin-1 instead")
    ]


def test_urls_are_refused(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "config", "include https://example.com/config\n"))

    assert loaded.snapshot is None


def test_the_epoch_is_the_callers(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "config", ""), epoch=7)

    assert loaded.snapshot is not None
    assert loaded.snapshot.epoch == 7


def test_a_source_group_that_nobody_wrote_is_pointed_out() -> None:
    group = "<source-group partner>\nmax-smtp-in 2\n</source-group>\n"
    loaded = load_text(group + "<source 10/8>\nsource-group partners\n</source>")

    assert loaded.snapshot is not None
    assert loaded.snapshot.source_groups["partner"].integer("max-smtp-in") == 2
    (problem,) = [problem for problem in loaded.problems if "source-group" in problem.text]
    assert "nothing is limited" in problem.text
    assert problem.hint == "did you mean partner?"


def test_files_that_are_read_while_the_server_runs_are_missed_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "there.pem", "x")
    text = """<domain a.b>
smtp-tls-ca-file "none.pem"
smtp-client-certificate there.pem
</domain>
<domain c.d>
smtp-client-certificate ""
</domain>
<dns>
precached-domains-file /none/domains
</dns>
"""
    loaded = load(write(tmp_path / "config", text))

    assert loaded.snapshot is not None
    assert [str(problem) for problem in loaded.problems] == [
        f"{tmp_path}/config:2: warning: cannot read {tmp_path}/none.pem: no such file",
        f"{tmp_path}/config:9: warning: cannot read /none/domains: no such file",
    ]
