"""The notebooks run from top to bottom, and what they say about their results is true."""

import ast
import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import soundfile
from ipykernel.kernelspec import write_kernel_spec
from matplotlib import image
from nbclient import NotebookClient
from typer.main import get_command

import smalti.io.examples
from smalti.cli.main import app

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK, SCORES = EXAMPLES / "nmf_audio_mosaicing.ipynb", EXAMPLES / "editing_a_score.ipynb"
EVERY_NOTEBOOK = pytest.mark.parametrize("path", [NOTEBOOK, SCORES], ids=["teaching", "scores"])

# A folder at the root, a home, a drive; not the slash of a division or of a web address.
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/)\]-])(?:/[A-Za-z][\w.-]*/|~/)|\b[A-Za-z]:\\")

# Reads the notebook's variables once it has run, so that the notebook need not print them.
PROBE = """
import json
hand, library, V_probe = H_hand.astype(float), H.astype(float), V.astype(float)
print(json.dumps({
    "shapes": [V.shape, W.shape, H.shape],
    "norms": [float(norm) for norm in np.linalg.norm(W, axis=0)],
    "hand_against_library": float(np.abs(hand - library).max() / hand.max()),
    "error_by_hand": 0.5 * float(np.sum((V_probe - W @ hand) ** 2)),
    "divergences": divergences,
    "likeness": {"target phase": likeness(y), "phase only": likeness(y_phase_only), "own phase": likeness(y_honest),
        "let it bee": likeness(y_bee), "griffin-lim": likeness(y_smooth)},
    "one_atom": [relative_error(Y_one), relative_error(W[:, loud] * loud_gain)],
    "rules": {name: [step.divergence, int(np.count_nonzero(step.H, axis=0).max())] for name, step in steps.items()},
    "missed": [missed(y_bee, bee.H), missed(y_smooth, bee.H)],
}, default=float))
"""


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook, folder, monkeypatch):
    """Run the notebook by a kernel of the interpreter that runs this test; return what it left in its folder."""
    # A kernel named python3 that someone installed may belong to another Python, without smalti; this path comes first.
    write_kernel_spec(str(folder / "kernels" / "python3"))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    # No start-up files of the user's, pictures inside the notebook, and nowhere to fetch recordings from.
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.setenv(smalti.io.examples.URL_VARIABLE, "http://recordings.invalid/")
    work = folder / "work"
    work.mkdir()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(work)}}).execute()
    return list(work.iterdir())


def shown(cells, kind):
    """Every output of a kind, such as image/png, decoded if it is a picture."""
    return [output.data[kind] for cell in cells for output in cell.outputs if kind in output.get("data", {})]


def test_runs_without_network_or_files_and_shows_what_it_promises(notebook, tmp_path, monkeypatch):
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE, id="probe"))
    # `execute` raises for a cell that fails; the notebook's own assertions are such failures.
    assert execute(notebook, tmp_path, monkeypatch) == []
    *cells, probe = code_cells(notebook)

    for cell in cells:
        assert all(output.output_type != "error" and output.get("name") != "stderr" for output in cell.outputs), cell.id

    players = [html for html in shown(cells, "text/html") if "<audio" in html]
    assert len(players) >= 8
    for html in players:
        wav = re.search(r'src="data:audio/wav;base64,([^"]+)"', html)
        samples, sr = soundfile.read(io.BytesIO(base64.b64decode(wav[1])))
        assert sr == 22050
        assert 6 < len(samples) / sr < 16
        assert np.sqrt(np.mean(samples**2)) > 0.01

    pictures = shown(cells, "image/png")
    assert len(pictures) >= 8
    for png in pictures:
        pixels = image.imread(io.BytesIO(base64.b64decode(png)))
        assert pixels.shape[1] >= 600
        assert pixels[..., :3].std() > 0.05

    found = json.loads(probe.outputs[0].text)
    (n_bins, n_frames), (_, n_atoms), shape = found["shapes"]
    assert n_bins == 1025
    assert shape == [n_atoms, n_frames]
    np.testing.assert_allclose(found["norms"], 1, rtol=1e-5)

    # The hand-written loop is float64, smalti's float32: measured 2e-6. Another eps, or none, would make 7e-5.
    assert found["hand_against_library"] < 2e-5
    np.testing.assert_allclose(found["error_by_hand"], found["divergences"][-1], rtol=1e-4)
    assert len(found["divergences"]) == 100
    assert np.diff(found["divergences"]).max() < 0

    likeness = found["likeness"]
    assert likeness["target phase"] > 0.8
    assert likeness["phase only"] > 0.5
    assert max(likeness[name] for name in ("own phase", "let it bee", "griffin-lim")) < 0.15

    best, mixed_up = found["one_atom"]
    assert best < 0.8
    assert mixed_up > 0.98

    divergences, at_once = zip(*found["rules"].values(), strict=True)
    assert list(divergences) == sorted(divergences)
    assert at_once[0] > 100
    assert at_once[2] == 10
    recorded, refined = found["missed"]
    assert refined < 0.5 * recorded


def test_a_score_is_edited_and_heard(tmp_path, monkeypatch):
    notebook = nbformat.read(SCORES, as_version=4)
    assert execute(notebook, tmp_path, monkeypatch) == []
    cells = code_cells(notebook)
    printed = {
        cell.id: "".join(output.text for output in cell.outputs if output.output_type == "stream") for cell in cells
    }
    for cell in cells:
        assert all(output.output_type != "error" and output.get("name") != "stderr" for output in cell.outputs), cell.id
    assert printed["render"] == "the same samples: True\n"
    assert float(printed["stems"].partition(":")[2]) < 1e-6
    # Within the span the grains that are left are about 9 dB quieter; outside it, the level hardly changes.
    before, within, after = (float(change) for change in re.findall(r"([+-]\d+\.\d) dB", printed["edit-level"]))
    assert within < -6
    assert max(abs(before), abs(after)) < 1
    assert sum(len(re.findall("<audio", html)) for html in shown(cells, "text/html")) == 10
    pictures = [image.imread(io.BytesIO(base64.b64decode(png))) for png in shown(cells, "image/png")]
    assert len(pictures) == 3
    assert min(pixels[..., :3].std() for pixels in pictures) > 0.05


@EVERY_NOTEBOOK
def test_committed_file_holds_no_trace_of_a_run(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.metadata == {}, cell.id
        # Named by hand: editors that renumber cells would show up as a change.
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id), cell.id
    for cell in code_cells(notebook):
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id


@EVERY_NOTEBOOK
def test_no_cell_names_an_absolute_path(path):
    notebook = nbformat.read(path, as_version=4)
    for example in ("open('/home/me/x.wav')", "~/x.wav", "/tmp/x", r"C:\x", "see /usr/share/x"):
        assert ABSOLUTE_PATH.search(example), example
    for example in ("a / b / c", "H/norms/2", "f(x)/n/m", "https://a.org/data/x", "examples/x/y.wav", "$V / WH$"):
        assert not ABSOLUTE_PATH.search(example), example
    for cell in notebook.cells:
        assert not ABSOLUTE_PATH.search(cell.source), cell.id


def test_the_alternative_recordings_load_once_uncommented(notebook, tmp_path, monkeypatch):
    (cell,) = [cell for cell in notebook.cells if cell.id == "load-others"]
    assert all(line.startswith("#") for line in cell.source.splitlines())
    uncommented = re.sub(r"^# ?", "", cell.source, flags=re.MULTILINE)
    ast.parse(uncommented)

    def fetch(name):
        assert name in smalti.io.examples.EXAMPLES
        file = tmp_path / f"{name}.wav"
        soundfile.write(file, np.sin(np.arange(44100 * 20) / 50)[:, np.newaxis] * [0.5, 0.3], 44100)
        return file

    monkeypatch.setattr(smalti.io.examples, "fetch_example", fetch)
    names = {"smalti": smalti, "sr": 22050}
    exec(uncommented, names)
    assert len(names["source"]) == 15 * 22050
    assert len(names["target"]) == 7 * 22050


@EVERY_NOTEBOOK
def test_the_command_lines_it_teaches_are_understood(path):
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    lines = re.findall(r"^smalti (\w+) (.+)", text, flags=re.MULTILINE)
    assert len(lines) >= 3
    for name, arguments in lines:
        command, words = get_command(app).commands[name], arguments.split()
        if name == "score":
            command = command.commands[words.pop(0)]
        command.make_context(name, words)
