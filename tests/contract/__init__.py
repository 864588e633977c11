"""The exactness contract: full model with dropped ZIGs zeroed = compact model."""
