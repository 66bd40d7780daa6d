"""The papers' sums as literal loops: slow, plain, and written without a look at how the package computes them.

Notation as everywhere: V (F, N) target, W (F, K) dictionary, H (K, N) activations. No noise floor here: sums skip the
terms that are 0 by definition, and the floor of the package lies far below the tolerances of the tests.
"""

import math

import numpy as np
import scipy.optimize
import scipy.signal


def window(name, n_fft):
    """The periodic window of scipy.signal."""
    return scipy.signal.get_window(name, n_fft, fftbins=True)


def stft(y, n_fft, hop, name, n_frames):
    """Frame by frame, bin by bin: the sum over the windowed samples around sample n * hop, zeros outside the signal."""
    w, bins = window(name, n_fft), n_fft // 2 + 1
    X = np.zeros((bins, n_frames), complex)
    for n in range(n_frames):
        for k in range(bins):
            for m in range(n_fft):
                i = n * hop - n_fft // 2 + m
                if 0 <= i < len(y):
                    angle = -2 * math.pi * k * m / n_fft
                    X[k, n] += float(y[i]) * w[m] * complex(math.cos(angle), math.sin(angle))
    return X


def istft(X, n_fft, hop, name, length):
    """Griffin & Lim (1984), eq. 6: windowed inverse transforms added up, over the sum of squared windows."""
    w = window(name, n_fft)
    top, bottom = np.zeros(length), np.zeros(length)
    for n in range(X.shape[1]):
        frame = np.fft.irfft(X[:, n], n_fft)
        for m in range(n_fft):
            i = n * hop - n_fft // 2 + m
            if 0 <= i < length:
                top[i] += w[m] * frame[m]
                bottom[i] += w[m] ** 2
    return top / bottom


def overlap_add(frames, hop):
    n_frames, n = frames.shape
    out = np.zeros((n_frames - 1) * hop + n, frames.dtype)
    for i in range(n_frames):
        for m in range(n):
            out[i * hop + m] += frames[i, m]
    return out


def inconsistency(X, magnitudes):
    """||(|X| - M)|| over all n_fft bins: each between the first and the last counts twice, with its mirror image."""
    weights = np.full(len(X), 2.0)
    weights[[0, -1]] = 1
    return math.sqrt(np.sum(weights[:, None] * (np.abs(X) - magnitudes) ** 2))


def divergence(V, Y, beta):
    """Févotte & Idier (2011), eqs. 3 to 5, entry by entry, with the limits where an entry is 0."""
    total = 0.0
    for v, y in zip(np.ravel(V).tolist(), np.ravel(Y).tolist(), strict=True):
        total += _divergence_of_entry(v, y, beta)
    return total


def _divergence_of_entry(v, y, beta):
    if beta == 1:
        if v == 0:
            return y
        return math.inf if y == 0 else v * math.log(v / y) - v + y
    if beta == 0:
        if v == y:
            return 0.0
        return math.inf if v == 0 or y == 0 else v / y - math.log(v / y) - 1
    if y == 0 and beta < 1:
        return 0.0 if v == 0 else math.inf
    return (v**beta + (beta - 1) * y**beta - beta * v * y ** (beta - 1)) / (beta * (beta - 1))


def update(H, V, W, beta, eps=0.0):
    """Févotte & Idier (2011), the multiplicative update of each entry, with its exponent for beta < 1.

    0 / 0 (a silent atom, or a frame in which nothing sounds) is 0.
    """
    n_bins, n_atoms = W.shape
    n_frames = V.shape[1]
    out = np.zeros((n_atoms, n_frames))
    for n in range(n_frames):
        y = [sum(W[f, j] * H[j, n] for j in range(n_atoms)) for f in range(n_bins)]
        for k in range(n_atoms):
            sounding = [f for f in range(n_bins) if W[f, k] > 0 and y[f] > 0]
            top = eps + sum(W[f, k] * V[f, n] * y[f] ** (beta - 2) for f in sounding)
            bottom = eps + sum(W[f, k] * y[f] ** (beta - 1) for f in sounding)
            ratio = top / bottom if bottom > 0 else 0.0
            out[k, n] = H[k, n] * ratio ** (1 / (2 - beta) if beta < 1 else 1)
    return out


def notebook(V, W, H, n_iter=100, eps=0.01):
    """The teaching notebook's loop."""
    for _ in range(n_iter):
        H = H * (W.T @ V + eps) / (W.T @ W @ H + eps)
    return H


def limit_repetition(H, r, strength):
    """Driedger et al. (2015): H[k, t] stays if it is the maximum of H[k, s] over |t - s| <= r."""
    n_atoms, n_frames = H.shape
    out = H.copy()
    for k in range(n_atoms):
        for t in range(n_frames):
            if H[k, t] < max(H[k, s] for s in range(n_frames) if abs(t - s) <= r):
                out[k, t] = (1 - strength) * H[k, t]
    return out


def limit_polyphony(H, p, strength, weights=None):
    """Driedger et al. (2015): of each column the p strongest stay; p may be a list with a number for each column."""
    n_atoms, n_frames = H.shape
    out = H.copy()
    for t in range(n_frames):
        scores = [H[k, t] * (1 if weights is None else weights[k]) for k in range(n_atoms)]
        for k in sorted(range(n_atoms), key=lambda atom: scores[atom], reverse=True)[
            p if isinstance(p, int) else p[t] :
        ]:
            out[k, t] = (1 - strength) * H[k, t]
    return out


def enhance_continuity(H, c, segments=None):
    """Driedger et al. (2015): the sum of H[k + i, t + i] for i = -c..c, as far as the recording goes.

    c may be a list with a number for each column t.
    """
    n_atoms, n_frames = H.shape
    out = np.zeros_like(H)
    for k in range(n_atoms):
        for t in range(n_frames):
            reach = c if isinstance(c, int) else c[t]
            for i in range(-reach, reach + 1):
                inside = 0 <= k + i < n_atoms and 0 <= t + i < n_frames
                if inside and (segments is None or segments[k] == segments[k + i]):
                    out[k, t] += H[k + i, t + i]
    return out


def let_it_bee(V, W, H, n_iter, r, p, c, *, beta=1, eps=0.0, every=1, power=0, segments=None):
    """The whole algorithm; polyphony compares ``H * norm ** power``. r, p and c may be None. Returns every H."""
    norms = [math.sqrt(sum(W[f, k] ** 2 for f in range(len(W)))) for k in range(W.shape[1])]
    history = []
    for iteration in range(n_iter):
        if iteration % every == 0:
            strength = (iteration + 1) / n_iter
            if r is not None:
                H = limit_repetition(H, r, strength)
            if p is not None:
                H = limit_polyphony(H, p, strength, [norm**power for norm in norms])
            if c is not None:
                H = enhance_continuity(H, c, segments)
        H = update(H, V, W, beta, eps)
        history.append(H)
    return history


def pursuit(v, W, n_atoms, nonnegative):
    """Orthogonal matching pursuit of one frame, as the textbook has it; gains of the atoms as given."""
    norms = np.linalg.norm(W, axis=0)
    support, gains, residual = [], np.zeros(W.shape[1]), v
    for _ in range(n_atoms):
        scores = [
            -math.inf if norms[k] == 0 or k in support else float(W[:, k] @ residual) / norms[k]
            for k in range(W.shape[1])
        ]
        scores = scores if nonnegative else [abs(s) if s > -math.inf else s for s in scores]
        best = int(np.argmax(scores))
        if not scores[best] > 1e-12 * np.linalg.norm(v):
            break
        support.append(best)
        atoms = W[:, support]
        found = scipy.optimize.nnls(atoms, v)[0] if nonnegative else np.linalg.lstsq(atoms, v)[0]
        gains = np.zeros(W.shape[1])
        gains[support] = found
        residual = v - atoms @ found
        if nonnegative:
            support = [k for k in support if gains[k] > 0]
    return gains


def contour_gains(target, own, share):
    """Draw one loudness contour (LUFS, every 0.1 s) towards another: moment by moment, then averaged over a second."""

    def sounds(contour, n):
        return contour[n] > -math.inf and contour[n] > max(contour) - 60

    n_moments = len(own)
    both_sound = [n for n in range(n_moments) if sounds(own, n) and sounds(target, n)]
    if not both_sound:
        return np.zeros(n_moments)
    mean = sum(target[n] - own[n] for n in both_sound) / len(both_sound)
    gains = []
    for n in range(n_moments):
        if n in both_sound:
            gains.append(min(12, max(-12, target[n] - own[n] - mean)))
        else:
            gains.append(-12 if sounds(own, n) else 0)
    out = np.zeros(n_moments)
    for n in range(n_moments):
        top = bottom = 0.0
        for i in range(-5, 6):
            if 0 <= n + i < n_moments:
                weight = 0.5 + 0.5 * math.cos(math.pi * i / 6)
                top += weight * gains[n + i]
                bottom += weight
        smooth = top / bottom
        out[n] = share * (smooth if sounds(own, n) else min(smooth, 0))
    return out


def turn_toward(own, other, share):
    """The unit factor from `own` to the angle of (1 - share) u(own) + share u(other), bin by bin; 1 if it has none."""
    out = np.ones(own.shape, complex)
    for at in np.ndindex(own.shape):
        a, b = complex(own[at]), complex(other[at])
        u, v = (z / abs(z) if z else 0 for z in (a, b))
        wanted = (1 - share) * u + share * v
        if u and abs(wanted) > 1e-12:
            out[at] = wanted / abs(wanted) / u
    return out


def spectrum_at(y, centre, n_fft):
    """One frame of `stft` with a Hann window, centred on any sample: the sum over its samples, bin by bin."""
    m = np.arange(n_fft)
    frame = np.zeros(n_fft)
    for j in range(n_fft):
        if 0 <= centre - n_fft // 2 + j < len(y):
            frame[j] = y[centre - n_fft // 2 + j]
    frame = frame * (0.5 - 0.5 * np.cos(2 * np.pi * m / n_fft))
    return np.array([np.sum(frame * np.exp(-2j * np.pi * k * m / n_fft)) for k in range(n_fft // 2 + 1)])


def a_weighting_db(hz):
    """IEC 61672-1, annex E: the A curve in decibels at one frequency > 0."""
    f1, f2, f3, f4 = 20.598997, 107.65265, 737.86223, 12194.217
    top = f4**2 * hz**4
    return 2.0 + 20 * math.log10(top / ((hz**2 + f1**2) * math.hypot(hz, f2) * math.hypot(hz, f3) * (hz**2 + f4**2)))


def bands_of(hz_of_bins, name):
    """The band that each bin is in: "pitch" has one a bin to 1 kHz and one every 3 % above, "attack" every 1.8 ERB."""
    if name == "attack":
        numbers = [math.floor(21.4 * math.log10(1 + 0.00437 * hz) / 1.8) for hz in hz_of_bins]
    else:
        spacing = hz_of_bins[1]
        edges = [round(1000 * 1.03**i / spacing) for i in range(200)]
        numbers = [
            k if hz < 1000 and k < edges[0] else len(edges) + sum(edge <= k for edge in edges)
            for k, hz in enumerate(hz_of_bins)
        ]
    return [sorted(set(numbers)).index(number) for number in numbers]


def view(y, centres, n_fft, sr, name, ear_weighting=False):
    """Magnitudes around each centre, bin by bin added to the bin's band."""
    hz = [k * sr / n_fft for k in range(n_fft // 2 + 1)]
    bands = bands_of(hz, name)
    out = np.zeros((max(bands) + 1, len(centres)))
    for n, centre in enumerate(centres):
        for k, value in enumerate(spectrum_at(y, centre, n_fft)):
            gain = 1.0 if not ear_weighting else 0.0 if k == 0 else 10 ** (a_weighting_db(hz[k]) / 20)
            out[bands[k], n] += gain * abs(value)
    return out


def colour_gains(ours, theirs, hz_of_bins, share):
    """Gains (B, N) in dB from powers (F, N): `share` of the difference of levels in triangles half an ERB apart."""
    numbers = [21.4 * math.log10(1 + 0.00437 * hz) for hz in hz_of_bins]
    n_bands = math.ceil(numbers[-1] / 0.5) + 1
    levels = []
    for power in (ours, theirs):
        banded = np.zeros((n_bands, power.shape[1]))
        for b in range(n_bands):
            for k, number in enumerate(numbers):
                banded[b] += max(0.0, 1 - abs(number - 0.5 * b) / 0.5) * power[k]
        levels.append(banded)
    floor = levels[1].max() * 10**-4.5
    out = np.zeros(levels[0].shape)
    for at in np.ndindex(out.shape):
        difference = 10 * math.log10((levels[1][at] + floor) / (levels[0][at] + floor))
        out[at] = min(12, max(-12, share * difference))
    return out


def attack_gains(ours, theirs, hz_of_bins, times, attacks, share, reach):
    """Gains (3, N) in dB from powers (F, N): down before attacks and up after them, averaged over 2 reach + 1 frames.

    Three bands, from 0, 600 and 2500 Hz; levels are means of 5 frames. Down where the mosaic is 6 dB louder than the
    target, in the band and in all, by 30 dB at most; up by 6 dB at most.
    """
    n_frames = len(times)

    def mean(values, half):
        # The values at the ends go on beyond them.
        return [
            sum(values[min(max(i, 0), n_frames - 1)] for i in range(n - half, n + half + 1)) / (2 * half + 1)
            for n in range(n_frames)
        ]

    def level(power, low, high):
        rows = [k for k, hz in enumerate(hz_of_bins) if low <= hz < high]
        return mean([sum(power[k][n] for k in rows) for n in range(n_frames)], 2)

    ranges = [(0, 600), (600, 2500), (2500, math.inf)]
    mine, wanted = ([level(power, *limits) for limits in ranges] for power in (ours, theirs))

    def apart(mine, wanted, loudest):
        return 10 * math.log10((wanted + 1e-9 * loudest) / (mine + 1e-9 * loudest))

    loudest = max(max(row) for row in wanted)
    sums = [[sum(rows[b][n] for b in range(3)) for n in range(n_frames)] for rows in (mine, wanted)]
    out = []
    for b in range(3):
        gains = []
        for n, time in enumerate(times):
            missing = apart(mine[b][n], wanted[b][n], loudest)
            in_all = apart(sums[0][n], sums[1][n], max(sums[1]))
            before, after = before_and_after(time, attacks)
            down = min(0, max(-30, min(missing, in_all) + 6))
            gains.append(share * (before * down + after * min(6, max(0, missing))))
        out.append(mean(gains, reach))
    return np.array(out)


def before_and_after(time, attacks):
    """How much a moment is before an attack and after one: full from 60 ms before, none from 120 ms; 40 ms after."""
    after = max([1 - (time - attack) / 0.040 for attack in attacks if 0 <= time - attack < 0.040], default=0.0)
    before = max(
        [min(1.0, (0.120 - (attack - time)) / 0.060) for attack in attacks if 0 < attack - time <= 0.120], default=0.0
    )
    return before * (1 - after), after


def limiter_gains(excess, sr):
    """`smalti.dsp.dynamics.limiter_gains` by its docstring; the values at the ends go on beyond them."""
    reach = max(1, round(0.005 * sr))
    length = len(excess)
    needed = [max(0.0, max(excess[max(0, n - reach) : n + reach + 1])) for n in range(length)]
    released = list(needed)
    for n in range(1, length):
        released[n] = max(needed[n], released[n - 1] - 75 / sr)
    gains = []
    for n in range(length):
        total = weight = 0.0
        for offset in range(-reach, reach + 1):
            share = reach + 1 - abs(offset)
            total += share * released[min(max(n + offset, 0), length - 1)]
            weight += share
        gains.append(-total / weight)
    return np.array(gains)


def runs(contributions, segments, under_frame_db, under_all_db, gap):
    """The stretches of `smalti.grains.runs.find_runs` as (atom, frame, length, energy), cell by cell."""
    K, N = contributions.shape
    least_of_all = contributions.max(initial=0) * 10 ** (-under_all_db / 20)
    found = []
    for diagonal in range(1 - K, N):
        current = None
        for atom in range(K):
            frame = atom + diagonal
            if not 0 <= frame < N:
                continue
            least = max(contributions[:, frame].max() * 10 ** (-under_frame_db / 20), least_of_all)
            if contributions[atom, frame] == 0 or contributions[atom, frame] < least:
                continue
            goes_on = current is not None and frame - current[2] <= gap + 1 and segments[atom] == segments[current[0]]
            if not goes_on:
                current = [atom, frame, frame, 0.0]
                found.append(current)
            current[2] = frame
            current[3] += contributions[atom, frame] ** 2
    return [(atom, first, last - first + 1, energy) for atom, first, last, energy in found]


def chosen_runs(stretches, layers, shortest):
    """Which of (atom, frame, length, energy) are kept: the long ones by energy, then the short ones by energy.

    `layers` is a number, or a list of one for each frame.
    """
    by_energy = sorted(range(len(stretches)), key=lambda i: -stretches[i][3])
    order = [i for i in by_energy if stretches[i][2] >= shortest] + [i for i in by_energy if stretches[i][2] < shortest]
    kept, sounding = [], {}
    for i in order:
        _, first, length, _ = stretches[i]
        frames = range(first, first + length)
        free = 0
        for frame in frames:
            room = layers if isinstance(layers, int) else layers[frame]
            free += sounding.get(frame, 0) < (room if length >= shortest else 1)
        if free >= length / 2:
            kept.append(i)
            for frame in frames:
                sounding[frame] = sounding.get(frame, 0) + 1
    return kept


def block_product(H, blocks, n_bins):
    """The model of `smalti.nmf.divergence.BlockFit`, entry by entry; `blocks` are (voices, frames, W)."""
    Y = np.zeros((n_bins, H.shape[1]))
    for voices, frames, W in blocks:
        for voice, n in zip(voices, frames, strict=True):
            for f in range(n_bins):
                for k in range(W.shape[1]):
                    Y[f, n] += W[f, k] * H[voice * W.shape[1] + k, n]
    return Y


def block_update(H, V, blocks):
    """Lee & Seung's update for Kullback-Leibler, where W depends on voice and frame; 0 in places of no block."""
    Y, out = block_product(H, blocks, len(V)), np.zeros(H.shape)
    for voices, frames, W in blocks:
        for voice, n in zip(voices, frames, strict=True):
            for k in range(W.shape[1]):
                sounding = [f for f in range(len(V)) if W[f, k] > 0 and Y[f, n] > 0]
                top = sum(W[f, k] * V[f, n] / Y[f, n] for f in sounding)
                bottom = sum(W[f, k] for f in sounding)
                row = voice * W.shape[1] + k
                out[row, n] = H[row, n] * top / bottom if bottom > 0 else 0.0
    return out
