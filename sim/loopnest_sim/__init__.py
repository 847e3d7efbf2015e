"""Loopnest's golden model and simulator."""
