"""Whole files whose subject is not built yet."""

_CREDITS = "grants and their burn-down are not built yet"
_WALLETS = "wallets are not built yet"
_ENTITLEMENTS = "entitlements with grants, resets and rollover are not built yet"
_PAYMENTS = "payments are not built yet"

CREDITS = {
    "om_credit_engine": _CREDITS,
    "om_grant_effective_period": _CREDITS,
    "om_grant_active_at": _CREDITS,
    "om_grant_order": _CREDITS,
    "om_balance_history": _CREDITS,
    "om_entitlement_balance": _ENTITLEMENTS,
    "fp_entitlement_billing": _ENTITLEMENTS,
    "fp_entitlement_grant": _ENTITLEMENTS,
    "fp_wallet": _WALLETS,
    "fp_wallet_realtime_balance": _WALLETS,
    "lago_wallet_allocation": _WALLETS,
    "fp_credit_grant_schedule": _CREDITS,
    "fp_credit_expiry": _CREDITS,
    "fp_credit_adjustment": "credits on an invoice are not built yet",
}
INVOICES = {
    "fp_invoice_waterfall": "discounts, credits and taxes on an invoice are not built yet",
    "fp_payment_transition": _PAYMENTS,
    "lago_progressive_billing_credit": "threshold invoices are not built yet",
    "fp_invoice_void": _PAYMENTS,
    "fp_threshold_invoice": "threshold invoices are not built yet",
}
