"""Clients that mean harm, and what others see meanwhile."""
