"""Row 0, outside the PEs: scans and joins the outermost loop, and shares out its tokens."""
