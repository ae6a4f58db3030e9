"""`etastar report` and `etastar figure`, from files to a file."""

import json

from typer.testing import CliRunner

from etastar.cli import app


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_a_printed_result_and_a_network_become_a_page(tmp_path):
    printed = tmp_path / "depth.json"
    printed.write_text(run("depth", "zoo:mlp", "--arg", "depth=2", "--json").stdout)
    page = tmp_path / "page.html"
    done = run(
        "report", printed, "zoo:gpt", "--arg", "depth=3", "-o", page, "--title", "T", "--json"
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["results"] == ["Network", "Network"]
    assert said["num_bytes"] == page.stat().st_size
    text = page.read_text()
    assert text.count('class="node') > 3
    assert "depth.json, written 20" in text
    assert "etastar " in text


def test_a_plan_becomes_a_figure(tmp_path):
    sizes = ["--base", "depth=2", "--target", "depth=4", "--lr", "1", "--optimizer", "sgd"]
    plan = tmp_path / "plan.json"
    assert run("transfer", "zoo:mlp", *sizes, "--save", plan).exit_code == 0
    done = run("figure", plan, "-o", tmp_path / "plan.svg")
    assert done.exit_code == 0, done.output
    assert "Plan" in done.stdout
    assert "learning rate by group" in (tmp_path / "plan.svg").read_text()


def test_bad_sources_and_endings_end_with_code_2(tmp_path):
    for words in (["report", tmp_path / "none"], ["figure", tmp_path / "none"]):
        done = run(*words)
        assert done.exit_code == 2
        assert "what to do: check the path" in done.output
    (tmp_path / "r.json").write_text('{"rules": []}')
    assert run("figure", tmp_path / "r.json", "-o", tmp_path / "f.gif").exit_code == 2


def test_a_page_has_no_password_of_the_store_that_it_shows(tmp_path, monkeypatch):
    result = tmp_path / "plan.json"
    size = ["--base", "depth=2", "--target", "depth=4", "--lr", "1", "--optimizer", "sgd"]
    assert run("transfer", "zoo:mlp", *size, "--law", "constant", "--save", str(result))
    url = "postgresql://me:hunter2@host/runs?password=hunter3"
    monkeypatch.setattr("sys.argv", ["etastar", "report", str(result), url])
    page = tmp_path / "page.html"
    assert run("report", str(result), "-o", str(page)).exit_code == 0
    text = page.read_text()
    assert "me:***@host/runs" in text
    assert "hunter" not in text
