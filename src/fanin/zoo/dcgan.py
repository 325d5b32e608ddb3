"""A deep convolutional GAN: generator and discriminator in one module."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DCGAN", "dcgan"]


class DCGAN(nn.Module):
    """Transposed convolutions from a latent vector to an image, convolutions from it to a score.

    Args:
        latent: channels of the latent vector.
        width: channels next to the image; each layer away from it has twice as many.

    Source: Radford, Metz and Chintala 2015, arXiv:1511.06434, figure 1, for 32×32 images.
    """

    def __init__(self, *, latent: int = 100, width: int = 64) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(latent, 4 * width, 4, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, 1, 4, bias=False),
        )

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Scores (batch,) of the images that latent vectors (batch, latent) are turned into."""
        images = self.generator(latents[:, :, None, None])
        scores: torch.Tensor = self.discriminator(images).flatten()
        return scores


def dcgan(*, latent: int = 100, width: int = 64) -> DCGAN:
    """A generator of (batch, 3, 32, 32) images and its discriminator; see `DCGAN`.

    Example:
        >>> dcgan(latent=8, width=4)(torch.zeros(2, 8)).shape
        torch.Size([2])
    """
    return DCGAN(latent=latent, width=width)
