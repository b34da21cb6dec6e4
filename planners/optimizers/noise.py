"""Noise that is correlated in time, so that sampled action sequences are smooth."""

from __future__ import annotations

import numpy as np

from planners.protocols import FloatArray


def coloured_noise(
    rng: np.random.Generator, num_candidates: int, horizon: int, dim: int, exponent: float
) -> FloatArray:
    """Gaussian noise [num_candidates, horizon, dim] of unit variance, coloured along time.

    The power spectrum falls with frequency ** -exponent: 0 is white noise, 2 is a random walk's
    colour, larger values approach constant sequences. Twice the horizon is drawn and half of it is
    used, because the inverse Fourier transform makes the last step a neighbour of the first.
    """
    length = 2 * horizon
    frequencies = np.fft.rfftfreq(length)
    frequencies[0] = frequencies[1]
    amplitude = frequencies ** (-exponent / 2)
    shape = (num_candidates, dim, len(frequencies))
    real, imaginary = rng.standard_normal(shape), rng.standard_normal(shape)
    # the constant and the fastest wave have no phase: all of their power is real
    real[..., [0, -1]] *= np.sqrt(2.0)
    imaginary[..., [0, -1]] = 0.0
    spectrum = amplitude * (real + 1j * imaginary) / np.sqrt(2.0)
    power = 2 * np.sum(amplitude**2) - amplitude[0] ** 2 - amplitude[-1] ** 2
    series = np.fft.irfft(spectrum, n=length)[..., :horizon] * (length / np.sqrt(power))
    return np.ascontiguousarray(np.swapaxes(series, -1, -2), dtype=np.float32)
