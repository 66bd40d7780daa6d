"""Recordings of a request: what is read, what is skipped, and what is refused."""

import warnings

import numpy as np
import pytest
from kit_workflows import SR, put, tone

from helpers import finish, prepared
from smalti.dsp.conditioning import LOUDEST_PEAK, QUIETEST
from smalti.dsp.stft import StftParams
from smalti.errors import AudioFileError
from smalti.io.sound_read import read_audio
from smalti.mosaicing.solve import solver_of
from smalti.presets import PRESETS, configure
from smalti.workflows.inputs import Excerpt, read_inputs


def test_sources_are_resampled_to_the_rate_of_the_target(tmp_path, target):
    fast = put(tmp_path / "fast.wav", tone(24000, sr=24000, hz=1000), sr=24000)
    inputs = read_inputs(target, [fast])
    assert (inputs.sr, len(inputs.target.samples), len(inputs.source.samples[0])) == (SR, 4000, 8000)
    # A second of 1 kHz stays a second of 1 kHz.
    spectrum = np.abs(np.fft.rfft(inputs.source.samples[0]))
    assert spectrum.argmax() == 1000
    assert (inputs.target.recording.sr, inputs.source.recordings[0].sr) == (SR, 24000)
    (warning,) = inputs.warnings
    assert warning == f"at the {SR} Hz of {target}, what {fast} has above {SR // 2} Hz is lost; --sr 24000 keeps it"


def test_losses_by_another_rate_than_the_target_s_are_warned_of(target, source):
    inputs = read_inputs(target, [source], sr=SR // 2)
    assert (inputs.sr, len(inputs.target.samples)) == (SR // 2, len(read_audio(target).samples) // 2)
    assert inputs.warnings == (f"working at {SR // 2} Hz: what {target} has above {SR // 4} Hz is lost",)
    assert read_inputs(target, [source], sr=2 * SR).warnings == ()


def test_only_the_target_is_cut_to_the_excerpt(target, source):
    inputs = read_inputs(target, [source], excerpt=Excerpt(0.1, 0.3))
    assert (len(inputs.target.samples), len(inputs.source.samples[0])) == (1600, 4000)


def test_unusable_files_are_skipped_with_a_warning(tmp_path, target, source):
    folder = tmp_path / "takes"
    folder.mkdir()
    (folder / "text.wav").write_text("no sound")
    put(folder / "loud.wav", tone(100, level=20 * LOUDEST_PEAK), subtype="FLOAT")
    good = put(folder / "good.wav", tone(100))
    inputs = read_inputs(target, [folder, source])
    assert [recording.path for recording in inputs.source.recordings] == [good, source]
    assert [len(samples) for samples in inputs.source.samples] == [100, 4000]
    assert set(inputs.source.skipped) == {str(folder / "text.wav"), str(folder / "loud.wav")}
    assert len(inputs.warnings) == 2
    assert set(inputs.files) == {target, source, good, folder / "text.wav", folder / "loud.wav"}


def test_if_no_file_can_be_used_the_fault_is_named(tmp_path, target):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no sound")
    with pytest.raises(AudioFileError, match=r"none of the 2 source files can be used; the last: cannot read .*b\.wav"):
        read_inputs(target, [tmp_path / "a.wav", tmp_path / "b.wav"])
    with pytest.raises(AudioFileError, match=r"^cannot read .*a\.wav"):
        read_inputs(target, [tmp_path / "a.wav"])


@pytest.mark.parametrize("level", [0, QUIETEST / 10, 1e-40], ids=["zero", "next to nothing", "denormal"])
def test_a_source_without_sound_is_refused(tmp_path, target, level):
    silent = put(tmp_path / "silent.wav", np.full(100, level, np.float32), subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"source is silent.*silent\.wav"):
        read_inputs(target, [silent])
    assert len(read_inputs(target, [silent, target]).source.recordings) == 2


def test_the_loudest_and_the_quietest_accepted_files_make_finite_mosaics(tmp_path):
    loud = put(tmp_path / "loud.wav", tone(2000, level=LOUDEST_PEAK), subtype="FLOAT")
    quiet = put(tmp_path / "quiet.wav", tone(2000, level=3 * QUIETEST), subtype="FLOAT")
    for target, source in ((loud, quiet), (quiet, loud)):
        inputs = read_inputs(target, [source])
        for name in PRESETS:
            settings = configure(name, iterations=None if name == "sparse" else 3)
            # The longest window that the command line takes.
            for n_fft in (512, 2**17):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "(target|source).* fewer than one window")
                    job = prepared(
                        inputs.target.samples,
                        list(inputs.source.samples),
                        inputs.sr,
                        settings,
                        params=StftParams(n_fft, n_fft // 4),
                    )
                steps = list(solver_of(job).steps())
                mosaic = finish(job, steps[-1], [step.divergence for step in steps])
                assert np.isfinite(mosaic.audio).all()
                assert np.isfinite(mosaic.divergences).all()


def test_too_loud_and_too_short_recordings_are_refused(tmp_path, target, source):
    loud = put(tmp_path / "loud.wav", tone(100, level=20 * LOUDEST_PEAK), subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"cannot use .*loud\.wav: it peaks at .* where 1 is full scale"):
        read_inputs(loud, [source])
    # One sample at 96 kHz is a twelfth of one at 8 kHz.
    short = put(tmp_path / "short.wav", tone(1, sr=96000) + 0.5, sr=96000)
    with pytest.raises(AudioFileError, match=r"cannot use .*short\.wav: .* less than one sample at 8000 Hz"):
        read_inputs(target, [short])
    with pytest.raises(AudioFileError, match=r"short\.wav"):
        read_inputs(short, [source], sr=8000)


def test_a_file_as_both_target_and_source_is_warned_of(target):
    assert "target and source at once" in read_inputs(target, [target]).warnings[0]
