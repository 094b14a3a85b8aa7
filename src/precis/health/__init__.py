"""Whether dvc.yaml tells the truth: each stage is run on a small corpus and watched."""
