"""What a person sees: progress, scalars, figures and the HTML report."""
