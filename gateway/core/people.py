"""Who a person is: the PIN that headquarters keeps only as a hash."""

import asyncio

import argon2

from gateway.signed import Staff


async def is_pin_of(person: Staff, pin: str) -> bool:
    """Whether it is theirs. Such a hash is slow on purpose, so it is looked at beside the loop."""
    try:
        return await asyncio.to_thread(argon2.PasswordHasher().verify, person.pin_hash, pin)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
