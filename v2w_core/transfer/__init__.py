"""From pre-trained video-diffusion models to causal, action-guided ones (Vid2World section 4.1)."""
